//! The changes that API requests ask for. Whoever calls these has checked the request; it ends in
//! `api::finish` with an [`Outcome`] once the change is durable and applied.

use bytes::Bytes;
use millrace_clock::Now;

use crate::engine::{Creation, JetStream};
use crate::entry::{MetaOperation, Operation};
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::model::{ConsumerConfig, StorageKind, StreamConfig};
use crate::outbound::Outbound;
use crate::request::{Outcome, PendingRequest};

/// What a purge asks for. Zero or empty: not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeRequest {
    /// Only matching subjects.
    pub filter: Bytes,
    /// Only below this sequence.
    pub sequence: u64,
    /// Leave the newest so many.
    pub keep: u64,
}

impl JetStream {
    /// The configuration of a stream that is being created, if there is one of this name.
    #[must_use]
    pub fn creating(&self, account: AccountRef, name: &str) -> Option<&StreamConfig> {
        self.creating
            .get(&(account, name.to_owned()))
            .map(|creation| &creation.config)
    }

    /// Creates a stream with a checked and completed configuration. If one of this name and
    /// configuration is being created, the request waits for it.
    pub fn create_stream(
        &mut self,
        now: Now,
        account: AccountRef,
        config: StreamConfig,
        request: PendingRequest,
        effects: &mut Vec<Effect>,
    ) {
        let key = (account, config.name.clone());
        if let Some(creation) = self.creating.get_mut(&key) {
            creation.waiting.push(request);
            return;
        }
        if config.storage == StorageKind::Memory && config.num_replicas <= 1 {
            let id = StreamId(self.next_volatile);
            self.next_volatile += 1;
            self.creating.insert(
                key,
                Creation {
                    config: config.clone(),
                    waiting: vec![request],
                },
            );
            self.insert_stream(id, account, config, now.wall_ns, effects);
            return;
        }
        let name = self
            .accounts
            .get(&account)
            .map(|account| account.name.clone());
        let (true, Some(name)) = (self.meta.is_leader, name) else {
            self.shared.finished.push((request, Outcome::Abandoned));
            return;
        };
        let operation = MetaOperation::Create {
            group: self.meta.draw_group(),
            created_ns: now.wall_ns,
            account: Bytes::from(name),
            config: Bytes::from(serde_json::to_vec(&config).unwrap_or_default()),
        };
        // The request waits in `creating` until the stream takes publishes.
        self.meta.stage(operation, request.clone());
        self.creating.insert(
            key,
            Creation {
                config,
                waiting: vec![request],
            },
        );
    }

    /// Deletes a stream.
    pub fn delete_stream(
        &mut self,
        now: Now,
        id: StreamId,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if id.is_volatile() {
            self.remove_stream(now, id, Some(request), out, effects);
        } else if self.meta.is_leader {
            self.meta
                .stage(MetaOperation::Delete { group: id.0 }, request);
        } else {
            self.shared.finished.push((request, Outcome::Abandoned));
        }
    }

    /// Gives a stream a checked and completed configuration.
    pub fn update_stream(
        &mut self,
        now: Now,
        id: StreamId,
        config: &StreamConfig,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let config = Bytes::from(serde_json::to_vec(config).unwrap_or_default());
        self.change(
            now,
            id,
            Operation::Configure { config },
            request,
            out,
            effects,
        );
    }

    /// Purges a stream.
    pub fn purge_stream(
        &mut self,
        now: Now,
        id: StreamId,
        purge: PurgeRequest,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let PurgeRequest {
            filter,
            sequence,
            keep,
        } = purge;
        let operation = Operation::Purge {
            sequence,
            keep,
            filter,
        };
        self.change(now, id, operation, request, out, effects);
    }

    /// Deletes one message; `erase` also overwrites its bytes.
    pub fn delete_message(
        &mut self,
        now: Now,
        id: StreamId,
        sequence: u64,
        erase: bool,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let operation = Operation::Delete { sequence, erase };
        self.change(now, id, operation, request, out, effects);
    }

    /// Creates a consumer, or gives it a new configuration if there is one of this name. The
    /// configuration is checked and completed; it has no name if the server chose one.
    #[allow(clippy::too_many_arguments)]
    pub fn create_consumer(
        &mut self,
        now: Now,
        id: StreamId,
        name: &str,
        config: &ConsumerConfig,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let operation = Operation::ConsumerCreate {
            created_ns: now.wall_ns,
            name: Bytes::from(name.to_owned()),
            config: Bytes::from(serde_json::to_vec(config).unwrap_or_default()),
        };
        self.change(now, id, operation, request, out, effects);
    }

    /// Deletes a consumer.
    pub fn delete_consumer(
        &mut self,
        now: Now,
        id: StreamId,
        name: &str,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let operation = Operation::ConsumerDelete {
            name: Bytes::from(name.to_owned()),
        };
        self.change(now, id, operation, request, out, effects);
    }

    /// Pauses a consumer until a wall time, or resumes it (0).
    pub fn pause_consumer(
        &mut self,
        now: Now,
        id: StreamId,
        name: &str,
        until_ns: i64,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let name = Bytes::from(name.to_owned());
        let operation = Operation::ConsumerPause { until_ns, name };
        self.change(now, id, operation, request, out, effects);
    }

    /// Starts a consumer again at a sequence.
    pub fn reset_consumer(
        &mut self,
        now: Now,
        id: StreamId,
        name: &str,
        sequence: u64,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let name = Bytes::from(name.to_owned());
        let operation = Operation::ConsumerReset { sequence, name };
        self.change(now, id, operation, request, out, effects);
    }

    fn change(
        &mut self,
        now: Now,
        id: StreamId,
        operation: Operation,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let mut request = Some(request);
        self.with_stream(now, id, out, effects, |stream, turn| {
            if let Some(request) = request.take() {
                stream.change(turn, operation, request);
            }
        });
        if let Some(request) = request {
            self.shared.finished.push((request, Outcome::Abandoned));
        }
    }
}
