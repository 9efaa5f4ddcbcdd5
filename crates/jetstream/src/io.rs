//! What goes into the room and what comes out: [`Input`] and [`Effect`].

use bytes::Bytes;
use millrace_store::disk::{DiskCompletion, DiskRequest};
use millrace_store::stream::JournalRead;

use crate::ids::{AccountRef, Endpoint, GroupId, JournalPosition};
use crate::outbound::ClientHandle;

/// A message that reached one of our endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub subject: Bytes,
    /// Empty: none.
    pub reply: Bytes,
    /// The whole header block with its status line; empty: none.
    pub headers: Bytes,
    pub payload: Bytes,
    /// The connection that published it, if it was a client.
    pub client: Option<ClientHandle>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message for an endpoint that was bound with [`Effect::Bind`].
    Deliver {
        account: AccountRef,
        endpoint: Endpoint,
        message: Message,
    },
    /// An entry of the group is committed (and durable here): apply it. Entries of a group come in
    /// index order; empty entries (a new term's first) are passed on too.
    Committed {
        group: GroupId,
        index: u64,
        term: u64,
        data: Bytes,
        /// Where `data` begins in the journal; `None` in volatile groups.
        position: Option<JournalPosition>,
    },
    /// The entries that the journal held of the group when the server started are all applied.
    Replayed { group: GroupId },
    /// What the journal holds of the group cannot be read: its stream serves nothing until the next
    /// start, and nothing of it is touched.
    SetAside { group: GroupId },
    /// All streams are known: those that are not whole yet listen, and let wait what they hear.
    Started,
    /// The group's leadership changed on this server. Leading is reported only when all entries of
    /// earlier terms are applied.
    RoleChanged {
        group: GroupId,
        leader: bool,
        term: u64,
    },
    /// A disk request of ours ended.
    Disk(DiskCompletion),
    /// Interest in a watched subject came or went.
    InterestChanged { account: AccountRef, subject: Bytes },
    /// A checkpoint record asked for with [`Effect::Checkpoint`] is durable.
    CheckpointDurable { group: GroupId, index: u64 },
    /// The journal is above its budget and this group keeps its oldest file: move its messages to
    /// segments and ask for a checkpoint.
    CheckpointWanted { group: GroupId },
    /// A journal file is gone: positions in it are void.
    JournalReleased { file: u64 },
    /// The disk is full (or has room again): refuse what needs room (10023), let deletes, purges,
    /// acknowledgements and expiry go on.
    DiskFull { full: bool },
    /// The disk is still full: what holds nothing alive is to go.
    SpaceWanted,
    /// The time of [`crate::JetStream::next_deadline`] has come, or passed.
    Tick,
}

/// When an entry must be durable (hard-parts 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Rides in the next frame, at the latest 250 ms later.
    Lazy,
    /// Synced before anything rests on it.
    Now,
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warning,
    Information,
    Debug,
}

/// Something to be done by the rooms around.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Propose an entry to the group. Only sent while the group leads here.
    Propose {
        group: GroupId,
        data: Bytes,
        durability: Durability,
    },
    /// A stream came into being: make (or recover) its group. If the journal holds a checkpoint of
    /// it, [`crate::JetStream::restore`] is called before its entries are handed in.
    CreateGroup {
        group: GroupId,
        volatile: bool,
    },
    /// What may wait for company on its way to the disk goes now: somebody waits for it.
    Hurry,
    /// A message was erased: no journal file may keep a copy.
    Erase {
        group: GroupId,
    },
    /// A stream is gone: remove its group, its log and checkpoint.
    RemoveGroup {
        group: GroupId,
    },
    /// Subscribe inside the account: messages come back as [`Input::Deliver`].
    Bind {
        account: AccountRef,
        filter: Bytes,
        endpoint: Endpoint,
    },
    Unbind {
        account: AccountRef,
        filter: Bytes,
        endpoint: Endpoint,
    },
    /// Tell us with [`Input::InterestChanged`] when interest in this literal subject changes.
    WatchInterest {
        account: AccountRef,
        subject: Bytes,
    },
    UnwatchInterest {
        account: AccountRef,
        subject: Bytes,
    },
    /// Staged messages take more memory than they may: read no more from this client until
    /// [`Effect::ReleasePublishers`].
    HoldPublisher {
        client: ClientHandle,
    },
    /// Read again from all clients that were held back.
    ReleasePublishers,
    Disk(DiskRequest),
    /// Read a payload back from the journal; the end comes as [`Input::Disk`].
    JournalRead(JournalRead),
    /// Write and sync a checkpoint record of the group; journal files up to `index` may then go.
    Checkpoint {
        group: GroupId,
        index: u64,
        term: u64,
        state: Bytes,
    },
    Log {
        level: LogLevel,
        text: String,
    },
}
