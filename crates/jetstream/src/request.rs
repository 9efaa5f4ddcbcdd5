//! API requests that wait for a log entry, and how they end.
//!
//! The `api` module checks a request and calls a method of [`crate::JetStream`] that stages the
//! change; the request travels along as [`PendingRequest`]. When the entry is applied, the engine
//! calls `api::finish(engine, now, request, outcome, out)`, which writes the answer.

use crate::ids::{AccountRef, StreamId};
use crate::io::Message;

/// A request whose answer waits for its entry to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRequest {
    pub account: AccountRef,
    pub message: Message,
}

/// How a change that was asked for ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The stream exists now; `created` is false if it already did, with the same configuration.
    StreamCreated {
        stream: StreamId,
        created: bool,
    },
    StreamUpdated {
        stream: StreamId,
    },
    StreamDeleted {
        name: String,
    },
    StreamPurged {
        stream: StreamId,
        purged: u64,
    },
    /// `existed`: false if there was no message with that sequence when the entry was applied.
    MessageDeleted {
        stream: StreamId,
        sequence: u64,
        existed: bool,
    },
    ConsumerCreated {
        stream: StreamId,
        consumer: String,
    },
    ConsumerUpdated {
        stream: StreamId,
        consumer: String,
    },
    ConsumerDeleted {
        stream: StreamId,
        consumer: String,
    },
    ConsumerPaused {
        stream: StreamId,
        consumer: String,
    },
    ConsumerReset {
        stream: StreamId,
        consumer: String,
    },
    /// The server lost the lead of the group before the change was durable: say nothing.
    Abandoned,
}
