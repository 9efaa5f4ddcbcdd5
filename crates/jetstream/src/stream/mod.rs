//! One stream: its configuration, messages, consumers, and what is on its way into its log.

use crate::ids::{AccountRef, StreamId};

/// A stream of this server.
#[derive(Debug)]
pub struct Stream {
    pub id: StreamId,
    pub account: AccountRef,
    pub name: String,
}
