//! Messages that the tests of this folder write and read.

use super::message::{Deadline, Decision, MessageParts, Rollup};

pub(super) const DECISION: Decision = Decision {
    time_ns: 5,
    deadline: Deadline::At(77),
    rollup: Rollup::Subject,
    unwanted: false,
};

pub(super) fn parts(subject: &'static str, payload: &'static str) -> MessageParts<'static> {
    MessageParts {
        subject: subject.as_bytes(),
        headers: b"NATS/1.0\r\n\r\n",
        payload: payload.as_bytes(),
        note: b"",
    }
}
