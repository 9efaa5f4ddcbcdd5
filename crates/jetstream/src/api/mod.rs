//! The `$JS.API` interface: how requests are addressed, read and answered. The rules of what a
//! request may ask are in `model`; what it changes is done by the engine.

use millrace_clock::Now;

use crate::consumer::ConsumerEvent;
use crate::engine::JetStream;
use crate::ids::StreamId;
use crate::io::Effect;
use crate::outbound::Outbound;
use crate::request::{Outcome, PendingRequest};

/// A message on an API subject.
pub fn handle(
    engine: &mut JetStream,
    now: Now,
    request: PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let _ = (engine, now, request, out, effects);
}

/// A message on a stream's direct get subjects.
pub fn direct_get(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    request: PendingRequest,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let _ = (engine, now, stream, request, out, effects);
}

/// A change that a request asked for came to its end: answer it.
pub fn finish(
    engine: &mut JetStream,
    now: Now,
    request: PendingRequest,
    outcome: Outcome,
    out: &mut dyn Outbound,
    effects: &mut Vec<Effect>,
) {
    let _ = (engine, now, request, outcome, out, effects);
}

/// Something that a consumer did: an advisory, if somebody listens.
pub fn consumer_event(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    consumer: &str,
    event: &ConsumerEvent,
    out: &mut dyn Outbound,
) {
    let _ = (engine, now, stream, consumer, event, out);
}

/// A consumer was deleted because nobody used it: its DELETED advisory.
pub fn consumer_expired(
    engine: &mut JetStream,
    now: Now,
    stream: StreamId,
    consumer: &str,
    out: &mut dyn Outbound,
) {
    let _ = (engine, now, stream, consumer, out);
}
