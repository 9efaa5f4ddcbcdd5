//! Consumers that mirrors and sources ask for (spec jetstream/01 §6): what such a request becomes, and by
//! which identity a source knows its origin again.

use millrace_wire::headers;

use super::engine::ApiEngine;
use super::response::Body;
use crate::error::{ApiError, ErrorCode};
use crate::ids::StreamId;
use crate::io::Message;
use crate::model::{AckPolicy, ConsumerConfig, RetentionPolicy};
use crate::origin::short_hash;
use crate::request::PendingRequest;

const IDENTITY_HEADER: &[u8] = b"Nats-Stream-Identity";
/// Length of what is added to the name that was asked for.
const SUFFIX_LENGTH: usize = 8;
/// Unacknowledged messages of a consumer that removes what was copied.
const MAX_ACK_PENDING: i64 = 1000;

/// Which incarnation of a stream this is: one that is deleted and created again has another.
fn identity_of(engine: &dyn ApiEngine, id: StreamId) -> Option<String> {
    let stream = engine.stream(id)?;
    let text = format!("{}\n{}", stream.config.name, stream.created_ns);
    Some(short_hash(text.as_bytes()))
}

fn asked_identity(message: &Message) -> Option<&[u8]> {
    headers::find(&message.headers, IDENTITY_HEADER)
}

/// Refuses a source that knows another incarnation of the stream.
pub(super) fn check_identity(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    id: StreamId,
) -> Result<(), ApiError> {
    let Some(asked) = asked_identity(&pending.message).filter(|asked| !asked.is_empty()) else {
        return Ok(());
    };
    match identity_of(engine, id) {
        Some(actual) if actual.as_bytes() != asked => {
            Err(ErrorCode::ConsumerStreamIdentityMismatch.with(actual))
        }
        _ => Ok(()),
    }
}

/// What a mirror or source gets. Where acknowledgements remove messages, it is a durable one, by
/// which a message goes once it is copied.
pub(super) fn adapt(engine: &mut dyn ApiEngine, id: StreamId, config: &mut ConsumerConfig) {
    if !config.direct || !config.sourcing || config.name.is_empty() {
        return;
    }
    let retention = engine.stream(id).map(|stream| stream.config.retention);
    if retention.is_none_or(|retention| retention == RetentionPolicy::Limits) {
        let suffix = engine.random().base62(SUFFIX_LENGTH);
        config.name = format!("{}-{suffix}", config.name);
        return;
    }
    // One that is there already goes on where it is.
    let consumers = engine.consumers(id).into_iter();
    let mut named = consumers.filter(|(name, _)| *name == config.name);
    if let Some((_, existing)) = named.next() {
        config.deliver_policy = existing.deliver_policy;
        config.opt_start_seq = existing.opt_start_seq;
        config.opt_start_time = existing.opt_start_time;
    }
    config.direct = false;
    config.durable.clone_from(&config.name);
    config.ack_policy = AckPolicy::FlowControl;
    config.ack_wait_ns = 0;
    config.max_deliver = 0;
    config.inactive_threshold_ns = 0;
    config.max_ack_pending = MAX_ACK_PENDING;
}

/// The headers of an answer: a mirror or source is told the identity of the stream.
pub(super) fn answer_headers(
    engine: &dyn ApiEngine,
    pending: &PendingRequest,
    body: &Body,
) -> Vec<u8> {
    let info = match body {
        Body::Consumer(info) => info,
        Body::ConsumerReset {
            info: Some(info), ..
        } => info,
        _ => return Vec::new(),
    };
    if !info.config.sourcing && asked_identity(&pending.message).is_none() {
        return Vec::new();
    }
    let account = engine.account(pending.account);
    let id = account.and_then(|account| account.streams.get(&info.stream_name));
    let identity = id.and_then(|id| identity_of(engine, *id));
    identity.map_or_else(Vec::new, |identity| {
        format!("NATS/1.0\r\nNats-Stream-Identity: {identity}\r\n\r\n").into_bytes()
    })
}
