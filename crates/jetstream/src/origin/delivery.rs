//! What an origin's consumer sends: messages with their place in the origin, and control messages.

use crate::consumer::parse_ack_subject;
use crate::io::Message;
use crate::publish::{header_value, parse_number};

const ACK_PREFIX: &[u8] = b"$JS.ACK.";
const CONTROL_STATUS: &[u8] = b"NATS/1.0 100";

/// Where in its origin a delivered message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) sequence: u64,
    pub(crate) time_ns: i64,
    /// What the consumer counted, from 1.
    pub(crate) consumer_sequence: u64,
    pub(crate) deliveries: u64,
    /// Messages behind this one.
    pub(crate) pending: u64,
}

impl Delivered {
    /// From the reply subject of a delivery; `None` if it is none of a consumer.
    pub(crate) fn parse(reply: &[u8]) -> Option<Self> {
        let subject = parse_ack_subject(reply)?;
        let long = reply.split(|byte| *byte == b'.').count() > 9;
        let mut tail = reply
            .split(|byte| *byte == b'.')
            .skip(if long { 9 } else { 7 });
        let time_ns = parse_number(tail.next()?)?;
        let pending = parse_number(tail.next()?)?;
        Some(Self {
            sequence: subject.stream_sequence,
            time_ns: i64::try_from(time_ns).ok()?,
            consumer_sequence: subject.consumer_sequence,
            deliveries: subject.deliveries,
            pending,
        })
    }
}

/// A heartbeat or a flow control request, and not a message.
pub(crate) fn is_control(message: &Message) -> bool {
    message.headers.starts_with(CONTROL_STATUS) && !message.reply.starts_with(ACK_PREFIX)
}

/// A control message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// To be answered when everything before it is stored.
    FlowControl,
    /// `stalled`: the subject of a flow control request that got no answer.
    Heartbeat {
        last_consumer_sequence: Option<u64>,
        stalled: Option<Vec<u8>>,
    },
}

impl Control {
    pub(super) fn parse(message: &Message) -> Self {
        if !message.reply.is_empty() {
            return Self::FlowControl;
        }
        let last = header_value(&message.headers, b"Nats-Last-Consumer");
        let stalled = header_value(&message.headers, b"Nats-Consumer-Stalled");
        Self::Heartbeat {
            last_consumer_sequence: last.and_then(parse_number),
            stalled: stalled
                .filter(|subject| !subject.is_empty())
                .map(<[u8]>::to_vec),
        }
    }
}
