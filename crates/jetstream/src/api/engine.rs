//! What the API asks of the engine: a trait, so that the API can be tested against a small model
//! and the engine can change its insides.
//!
//! The engine calls [`super::handle`] for every message of the API endpoint, [`super::finish`] when
//! a change that was asked for is applied, and keeps each [`super::ParkedRead`] it is given until
//! its `step` says done.

use millrace_clock::{Now, Random};
use millrace_store::stream::StreamStore;

use crate::backup::{RestoreAsk, SnapshotAsk};
use crate::consumer::Explanation;
use crate::engine::Account;
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::model::{ConsumerConfig, ConsumerInfo, SourceInfo, StreamConfig};
use crate::outbound::Outbound;
use crate::request::PendingRequest;
use crate::settings::Settings;

/// One input being handled by the API.
pub struct ApiTurn<'a> {
    /// The moment of the input.
    pub now: Now,
    /// Answers and advisories.
    pub out: &'a mut dyn Outbound,
    /// What other rooms must do.
    pub effects: &'a mut Vec<Effect>,
}

/// A stream as the API sees it.
#[derive(Clone, Copy, Debug)]
pub struct StreamView<'a> {
    /// Its number.
    pub id: StreamId,
    /// Its effective configuration.
    pub config: &'a StreamConfig,
    /// When it was created, nanoseconds since the epoch.
    pub created_ns: i64,
    /// Its messages, as far as they are visible.
    pub store: &'a StreamStore,
    /// A change of configuration or consumers is proposed and not applied: what is checked now
    /// could be wrong by then.
    pub is_changing: bool,
}

/// A change of one stream, as the API checked it. The engine writes it to the stream's log.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new configuration; ends with `Outcome::StreamUpdated`.
    Configure(Box<StreamConfig>),
    /// A purge: messages below `sequence` (0: all), all but the newest `keep`, of `filter` (empty:
    /// all). Ends with `Outcome::StreamPurged`.
    Purge {
        sequence: u64,
        keep: u64,
        filter: String,
    },
    /// One message; ends with `Outcome::MessageDeleted`.
    DeleteMessage { sequence: u64, erase: bool },
    /// A new consumer, or a new configuration of one; ends with `Outcome::ConsumerCreated` or
    /// `Outcome::ConsumerUpdated`.
    StoreConsumer {
        name: String,
        config: Box<ConsumerConfig>,
    },
    /// Ends with `Outcome::ConsumerDeleted`.
    DeleteConsumer { name: String },
    /// 0: go on. Ends with `Outcome::ConsumerPaused`.
    PauseConsumer { name: String, until_ns: i64 },
    /// Ends with `Outcome::ConsumerReset`.
    ResetConsumer { name: String, sequence: u64 },
}

/// The engine, for the API.
pub trait ApiEngine {
    /// The room's settings.
    fn settings(&self) -> &Settings;
    /// Chance, for generated names and event ids.
    fn random(&mut self) -> &mut Random;
    /// An account with JetStream; `None` if it has none.
    fn account(&self, account: AccountRef) -> Option<&Account>;
    /// The same, to count calls.
    fn account_mut(&mut self, account: AccountRef) -> Option<&mut Account>;
    /// Bytes the account's streams hold, in memory and on disk.
    fn usage(&self, account: AccountRef) -> (u64, u64);
    /// A stream.
    fn stream(&self, stream: StreamId) -> Option<StreamView<'_>>;
    /// What a mirror or the sources of a stream report, in the order of its configuration.
    fn origins(&self, stream: StreamId, now: Now) -> Vec<SourceInfo>;
    /// A stream's store, to read messages.
    fn store_mut(&mut self, stream: StreamId) -> Option<&mut StreamStore>;
    /// Names and configurations of a stream's consumers in name order.
    fn consumers(&self, stream: StreamId) -> Vec<(&str, &ConsumerConfig)>;
    /// A consumer as it is now; configuration as stored.
    fn consumer_info(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
    ) -> Option<ConsumerInfo>;
    /// Why a consumer is not delivering.
    fn explain(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
    ) -> Option<Explanation>;
    /// Where a reset would start, or the reason of the refusal.
    ///
    /// # Errors
    /// The text after `invalid reset: `.
    fn check_reset(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
        sequence: Option<u64>,
    ) -> Result<u64, &'static str>;
    /// Takes the pin of a group. False: there is no such group.
    fn unpin(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        consumer: &str,
        group: &str,
    ) -> bool;
    /// Configurations of streams of the account that are being created.
    fn creating(&self, account: AccountRef) -> Vec<&StreamConfig>;
    /// Keeps a request until what the stream's `is_changing` told of is applied, then hands it to
    /// [`super::handle`] again.
    fn park(&mut self, stream: StreamId, request: PendingRequest);
    /// Begins to send a stream. False: too much of this goes on already.
    fn begin_snapshot(&mut self, turn: &mut ApiTurn<'_>, ask: SnapshotAsk) -> bool;
    /// Begins to restore a stream: gives the subject that takes the chunks. `None`: too much of
    /// this goes on already.
    fn begin_restore(&mut self, turn: &mut ApiTurn<'_>, ask: RestoreAsk) -> Option<String>;
    /// There is no room for more on the disk: what is new is refused.
    fn is_disk_full(&self) -> bool;
    /// Creates a stream; ends with `Outcome::StreamCreated`.
    fn create_stream(
        &mut self,
        turn: &mut ApiTurn<'_>,
        config: StreamConfig,
        request: PendingRequest,
    );
    /// Deletes a stream; ends with `Outcome::StreamDeleted`.
    fn delete_stream(&mut self, turn: &mut ApiTurn<'_>, stream: StreamId, request: PendingRequest);
    /// Changes a stream through its own log; ends with the outcome of the operation.
    fn change_stream(
        &mut self,
        turn: &mut ApiTurn<'_>,
        stream: StreamId,
        change: Change,
        request: PendingRequest,
    );
}
