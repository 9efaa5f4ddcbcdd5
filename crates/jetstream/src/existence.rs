//! Which streams there are: what entries of the meta group do, and how a stream comes and goes.

use bytes::Bytes;
use millrace_clock::Now;

use crate::api;
use crate::engine::JetStream;
use crate::entry::{MetaOperation, decode_meta};
use crate::ids::{AccountRef, GroupId, StreamId};
use crate::io::{Effect, LogLevel};
use crate::meta::MetaStream;
use crate::model::StreamConfig;
use crate::outbound::Outbound;
use crate::request::{Outcome, PendingRequest};
use crate::shared::Turn;
use crate::stream::Stream;
use crate::stream::apply::Committed;

impl JetStream {
    /// Names of the accounts whose streams the log knows, in their order.
    #[must_use]
    pub fn stored_accounts(&self) -> Vec<String> {
        let streams = self.meta.streams.values();
        let names = streams.map(|stream| String::from_utf8_lossy(&stream.account).into_owned());
        let names: std::collections::BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }

    pub(crate) fn apply_meta(
        &mut self,
        now: Now,
        entry: &Committed,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if entry.index <= self.meta.applied_index {
            return;
        }
        self.meta.applied_index = entry.index;
        self.meta.applied_term = entry.term;
        if entry.data.is_empty() {
            return;
        }
        self.meta.changed_index = entry.index;
        let (head, operations) = match decode_meta(&entry.data) {
            Ok(decoded) => decoded,
            Err(error) => {
                let text = format!(
                    "JetStream: meta entry {} is unreadable: {error}",
                    entry.index
                );
                effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
                return;
            }
        };
        let own = self.meta.is_leader && head.origin == self.shared.origin;
        for operation in operations {
            let request = if own {
                self.meta.take_request(head.number)
            } else {
                None
            };
            match operation {
                MetaOperation::Create {
                    group,
                    created_ns,
                    account,
                    config,
                } => self.adopt_new(group, account, created_ns, config, false, effects),
                MetaOperation::BeginRestore {
                    group,
                    created_ns,
                    account,
                    config,
                } => self.adopt_new(group, account, created_ns, config, true, effects),
                MetaOperation::EndRestore { group } => {
                    self.end_restore(now, StreamId(group), out, effects);
                }
                MetaOperation::Delete { group } => {
                    // Also if its creation is lost, its number is not given again.
                    self.meta.next_group = self.meta.next_group.max(group + 1);
                    if self.meta.streams.remove(&group).is_none() {
                        // Its creation is lost; its group must not look like one whose deletion is.
                        let group = GroupId(group);
                        effects.push(Effect::RemoveGroup { group });
                    }
                    self.remove_stream(now, StreamId(group), request, out, effects);
                }
            }
        }
    }

    fn adopt_new(
        &mut self,
        group: u64,
        account: Bytes,
        created_ns: i64,
        config: Bytes,
        restoring: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.meta.next_group = self.meta.next_group.max(group + 1);
        let stream = MetaStream {
            account,
            created_ns,
            config,
            restoring,
        };
        self.adopt(group, &stream, effects);
        self.meta.streams.insert(group, stream);
    }

    /// Makes a stream that the meta group knows, and asks for its group.
    pub(crate) fn adopt(&mut self, group: u64, stream: &MetaStream, effects: &mut Vec<Effect>) {
        let name = String::from_utf8_lossy(&stream.account);
        let account = self
            .accounts
            .iter()
            .find(|(_, account)| account.name == name);
        let Some(account) = account.map(|(account, _)| *account) else {
            let text =
                format!("JetStream: a stream of account '{name}' is set aside: no such account");
            effects.push(Effect::Log {
                level: LogLevel::Warning,
                text,
            });
            return;
        };
        match serde_json::from_slice::<StreamConfig>(&stream.config) {
            Ok(config) => {
                let (id, created_ns) = (StreamId(group), stream.created_ns);
                if stream.restoring {
                    self.insert_unseen(id, account, config, created_ns, effects);
                } else {
                    self.insert_stream(id, account, config, created_ns, effects);
                }
            }
            Err(error) => {
                let text = format!("JetStream: stream of group {group} is set aside: {error}");
                effects.push(Effect::Log {
                    level: LogLevel::Error,
                    text,
                });
            }
        }
    }

    pub(crate) fn insert_stream(
        &mut self,
        id: StreamId,
        account: AccountRef,
        config: StreamConfig,
        created_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        let name = config.name.clone();
        self.insert_unseen(id, account, config, created_ns, effects);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.restoring = false;
        }
        if let Some(account) = self.accounts.get_mut(&account) {
            account.streams.insert(name, id);
        }
    }

    /// A stream that no request finds yet: it is being restored.
    pub(crate) fn insert_unseen(
        &mut self,
        id: StreamId,
        account: AccountRef,
        config: StreamConfig,
        created_ns: i64,
        effects: &mut Vec<Effect>,
    ) {
        let mut stream = Stream::new(id, account, config, created_ns, &mut self.shared);
        stream.restoring = true;
        if let Some(account) = self.accounts.get(&account) {
            stream.account_name = account.name.as_str().into();
        }
        self.shared.staging.clean(&stream.batch_directory());
        self.spaces.insert(stream.store_space, id);
        self.streams.insert(id, stream);
        effects.push(Effect::CreateGroup {
            group: id.group(),
            volatile: id.is_volatile(),
        });
        self.touched.insert(id);
    }

    /// Takes a stream away: nothing of it stays counted, nobody listens on its subjects any more.
    pub(crate) fn remove_stream(
        &mut self,
        now: Now,
        id: StreamId,
        request: Option<PendingRequest>,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(mut stream) = self.streams.remove(&id) {
            let mut turn = Turn {
                now,
                out,
                effects,
                shared: &mut self.shared,
            };
            stream.end(&mut turn);
            effects.push(Effect::RemoveGroup { group: id.group() });
            stream.remove_files(&mut self.shared, effects);
            self.spaces.remove(&stream.store_space);
            self.forget_timer(id);
            self.shared.memory.forget(id.0);
            self.touched.remove(&id);
            self.reading_index.remove(&id);
            api::stream_gone(self, now, id, out, effects);
            if let Some(account) = self.accounts.get_mut(&stream.account)
                // Another may have the name: this one is being restored, or its deletion was lost.
                && account.streams.get(&stream.name) == Some(&id)
            {
                account.streams.remove(&stream.name);
            }
            self.leave_parking(now, &mut stream, out, effects);
            if !stream.restoring {
                let origin = (stream.account, stream.name.clone());
                self.origin_changed(now, origin, false, out, effects);
            }
            if let Some(request) = request.filter(|_| !stream.restoring) {
                let outcome = Outcome::StreamDeleted { name: stream.name };
                self.shared.finished.push((request, outcome));
            }
        } else if let Some(request) = request {
            self.shared.finished.push((request, Outcome::Abandoned));
        }
    }
}
