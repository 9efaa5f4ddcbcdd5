//! The one way out for messages, implemented over the broker.
//!
//! It is a call and not an effect: whether a recipient took the message decides what a consumer
//! does next (hard-parts 1).

use bytes::Bytes;

use crate::ids::AccountRef;

/// A client connection as the broker numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientHandle(pub u64);

/// What advisories tell about the client that sent a request (spec jetstream/06).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    /// When the connection was made, nanoseconds since the epoch.
    pub start_ns: i64,
    pub host: String,
    pub id: u64,
    pub account: String,
    pub user: String,
    pub name: String,
    pub language: String,
    pub version: String,
    pub round_trip_ns: u64,
    pub server: String,
    pub kind: String,
    pub client_type: String,
}

/// Sends messages into an account and asks who listens.
pub trait Outbound {
    /// Publishes in `account`. True if anybody received it.
    fn send(
        &mut self,
        account: AccountRef,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> bool;

    /// Routes a message by `destination` while its recipients are shown `subject`: a consumer's
    /// delivery reaches an inbox but carries the subject it was stored under. True if anybody
    /// received it. With `destination` = `subject` it is [`Outbound::send`], but that a large payload
    /// is shared with recipients instead of copied for each.
    fn deliver(
        &mut self,
        account: AccountRef,
        destination: &[u8],
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> bool;

    /// True if a message on this literal subject would reach somebody.
    fn has_interest(&self, account: AccountRef, subject: &[u8]) -> bool;

    /// True if a message on this literal subject would reach a member of the queue group.
    fn has_queue_interest(&self, account: AccountRef, subject: &[u8], queue: &[u8]) -> bool;

    /// Facts about a connection, for advisories; `None` if it is gone.
    fn client_facts(&self, client: ClientHandle) -> Option<ClientFacts> {
        let _ = client;
        None
    }
}
