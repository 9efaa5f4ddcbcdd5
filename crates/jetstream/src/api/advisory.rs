//! Advisories and metrics under `$JS.EVENT.` (spec jetstream/06): subjects and JSON. Nothing is
//! built unless somebody is subscribed.

use millrace_clock::{Now, Random};
use serde::Serialize;

use crate::consumer::ConsumerEvent;
use crate::ids::AccountRef;
use crate::model::Timestamp;
use crate::model::json::{encode, is_zero};
use crate::outbound::{ClientFacts, Outbound};

/// Length of the random id of an event.
const ID_LENGTH: usize = 22;

/// Where an event is told, and what every event carries.
pub struct EventContext<'a> {
    /// The moment.
    pub now: Now,
    /// The account of the asset.
    pub account: AccountRef,
    /// JetStream domain; empty = none.
    pub domain: &'a str,
    /// For event ids.
    pub random: &'a mut Random,
    /// The way out.
    pub out: &'a mut dyn Outbound,
}

#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    timestamp: Timestamp,
    #[serde(flatten)]
    body: &'a T,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
}

/// Publishes an event if somebody listens. `subject` and `kind` without their common prefixes.
pub(crate) fn emit<T: Serialize>(
    context: &mut EventContext<'_>,
    subject: &str,
    kind: &str,
    body: &T,
) {
    let subject = format!("$JS.EVENT.{subject}");
    if !context
        .out
        .has_interest(context.account, subject.as_bytes())
    {
        return;
    }
    let event = Event {
        kind: format!("io.nats.jetstream.{kind}"),
        id: context.random.base62(ID_LENGTH),
        timestamp: Timestamp(context.now.wall_ns),
        body,
        domain: context.domain,
    };
    let json = encode(&event);
    context
        .out
        .send(context.account, subject.as_bytes(), b"", b"", &json);
}

/// What happened to a stream or consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Made.
    Create,
    /// Gone.
    Delete,
    /// Changed.
    Modify,
}

impl Action {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("CREATED", "create"),
            Self::Delete => ("DELETED", "delete"),
            Self::Modify => ("UPDATED", "modify"),
        }
    }
}

/// A stream was made, changed or deleted.
pub fn stream_action(context: &mut EventContext<'_>, stream: &str, action: Action) {
    #[derive(Serialize)]
    struct Body<'a> {
        stream: &'a str,
        action: &'a str,
    }
    let (verb, action) = action.words();
    emit(
        context,
        &format!("ADVISORY.STREAM.{verb}.{stream}"),
        "advisory.v1.stream_action",
        &Body { stream, action },
    );
}

/// A consumer was made or deleted.
pub fn consumer_action(
    context: &mut EventContext<'_>,
    stream: &str,
    consumer: &str,
    action: Action,
) {
    #[derive(Serialize)]
    struct Body<'a> {
        stream: &'a str,
        consumer: &'a str,
        action: &'a str,
    }
    let (verb, action) = action.words();
    emit(
        context,
        &format!("ADVISORY.CONSUMER.{verb}.{stream}.{consumer}"),
        "advisory.v1.consumer_action",
        &Body {
            stream,
            consumer,
            action,
        },
    );
}

/// A consumer was paused or goes on. `until` is the zero time when it was resumed.
pub fn consumer_pause(
    context: &mut EventContext<'_>,
    stream: &str,
    consumer: &str,
    paused: bool,
    until: Timestamp,
) {
    #[derive(Serialize)]
    struct Body<'a> {
        stream: &'a str,
        consumer: &'a str,
        paused: bool,
        #[serde(skip_serializing_if = "is_zero")]
        pause_until: Timestamp,
    }
    emit(
        context,
        &format!("ADVISORY.CONSUMER.PAUSE.{stream}.{consumer}"),
        "advisory.v1.consumer_pause",
        &Body {
            stream,
            consumer,
            paused,
            pause_until: until,
        },
    );
}

/// Why a batch ended without being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchAbandonReason {
    /// No message for too long.
    Timeout,
    /// Too many messages.
    Large,
    /// A message is missing, or another commit replaced it.
    Incomplete,
    /// It needs a newer API level.
    Unsupported,
}

/// An atomic batch was dropped.
pub fn batch_abandoned(
    context: &mut EventContext<'_>,
    stream: &str,
    batch: &str,
    reason: BatchAbandonReason,
) {
    #[derive(Serialize)]
    struct Body<'a> {
        stream: &'a str,
        batch: &'a str,
        reason: &'a str,
    }
    let reason = match reason {
        BatchAbandonReason::Timeout => "timeout",
        BatchAbandonReason::Large => "large",
        BatchAbandonReason::Incomplete => "incomplete",
        BatchAbandonReason::Unsupported => "unsupported",
    };
    emit(
        context,
        &format!("ADVISORY.STREAM.BATCH_ABANDONED.{stream}"),
        "advisory.v1.stream_batch_abandoned",
        &Body {
            stream,
            batch,
            reason,
        },
    );
}

/// Fields of the events about one delivery; the zero ones of a kind are not printed.
#[derive(Default, Serialize)]
struct DeliveryBody<'a> {
    stream: &'a str,
    consumer: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    consumer_seq: u64,
    stream_seq: u64,
    #[serde(skip_serializing_if = "is_zero")]
    ack_time: u64,
    deliveries: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// Fields of the events about a pinned client.
#[derive(Serialize)]
struct PinBody<'a> {
    account: &'a str,
    stream: &'a str,
    consumer: &'a str,
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pinned_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

/// Fields of the event about damage on the disk; our own.
#[derive(Serialize)]
struct DamageBody<'a> {
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_seq: Option<u64>,
    place: &'a str,
}

/// Fields of the event about a state that was put right; our own.
#[derive(Serialize)]
struct RepairBody<'a> {
    stream: &'a str,
    consumer: &'a str,
    violation: &'a str,
}

/// Damage on the disk: the message that is not served any more, or only where. Our own.
pub fn stream_damaged(
    context: &mut EventContext<'_>,
    stream: &str,
    sequence: Option<u64>,
    place: &str,
) {
    let kind = "advisory.v1.stream_damaged";
    let body = DamageBody {
        stream,
        stream_seq: sequence,
        place,
    };
    emit(
        context,
        &format!("ADVISORY.STREAM.DAMAGED.{stream}"),
        kind,
        &body,
    );
}

/// What a consumer told of itself. `account_name` stands in the events about pins.
pub fn consumer_event(
    context: &mut EventContext<'_>,
    account_name: &str,
    stream: &str,
    consumer: &str,
    event: &ConsumerEvent,
) {
    let pin = |group, pinned_id, reason| PinBody {
        account: account_name,
        stream,
        consumer,
        group,
        pinned_id,
        reason,
    };
    let advisory = |verb: &str| format!("ADVISORY.CONSUMER.{verb}.{stream}.{consumer}");
    match event {
        ConsumerEvent::Pinned { group, id } => {
            let kind = "advisory.v1.consumer_group_pinned";
            emit(context, &advisory("PINNED"), kind, &pin(group, id, ""));
        }
        ConsumerEvent::Unpinned { group, reason } => {
            let kind = "advisory.v1.consumer_group_unpinned";
            emit(
                context,
                &advisory("UNPINNED"),
                kind,
                &pin(group, "", reason),
            );
        }
        ConsumerEvent::Repaired { violation } => {
            let kind = "advisory.v1.consumer_repaired";
            let body = RepairBody {
                stream,
                consumer,
                violation,
            };
            emit(context, &advisory("REPAIRED"), kind, &body);
        }
        ConsumerEvent::PauseEnded => {
            consumer_pause(context, stream, consumer, false, Timestamp::ZERO);
        }
        _ => {
            if let Some((what, kind, body)) = delivery_event(stream, consumer, event) {
                emit(context, &format!("{what}.{stream}.{consumer}"), kind, &body);
            }
        }
    }
}

/// Subject (without its names), type and fields of an event about one delivery.
fn delivery_event<'a>(
    stream: &'a str,
    consumer: &'a str,
    event: &'a ConsumerEvent,
) -> Option<(&'static str, &'static str, DeliveryBody<'a>)> {
    let body = |consumer_seq: &u64, stream_seq: &u64, deliveries: &u64| DeliveryBody {
        stream,
        consumer,
        consumer_seq: *consumer_seq,
        stream_seq: *stream_seq,
        deliveries: *deliveries,
        ..DeliveryBody::default()
    };
    Some(match event {
        ConsumerEvent::MaxDeliveries {
            sequence,
            deliveries,
        } => (
            "ADVISORY.CONSUMER.MAX_DELIVERIES",
            "advisory.v1.max_deliver",
            body(&0, sequence, deliveries),
        ),
        ConsumerEvent::Naked {
            consumer_sequence,
            sequence,
            deliveries,
        } => (
            "ADVISORY.CONSUMER.MSG_NAKED",
            "advisory.v1.nak",
            body(consumer_sequence, sequence, deliveries),
        ),
        ConsumerEvent::Terminated {
            consumer_sequence,
            sequence,
            deliveries,
            reason,
        } => (
            "ADVISORY.CONSUMER.MSG_TERMINATED",
            "advisory.v1.terminated",
            DeliveryBody {
                reason,
                ..body(consumer_sequence, sequence, deliveries)
            },
        ),
        ConsumerEvent::AckSample {
            consumer_sequence,
            sequence,
            ack_time_ns,
            deliveries,
        } => (
            "METRIC.CONSUMER.ACK",
            "metric.v1.consumer_ack",
            DeliveryBody {
                ack_time: *ack_time_ns,
                ..body(consumer_sequence, sequence, deliveries)
            },
        ),
        _ => return None,
    })
}

/// The client in an audit event.
#[derive(Serialize)]
pub(crate) struct ClientBody<'a> {
    start: Timestamp,
    host: &'a str,
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    rtt: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    server: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_type: &'a str,
}

impl<'a> ClientBody<'a> {
    pub(crate) fn new(client: &'a ClientFacts) -> Self {
        Self {
            start: Timestamp(client.start_ns),
            host: &client.host,
            id: client.id,
            acc: &client.account,
            user: &client.user,
            name: &client.name,
            lang: &client.language,
            ver: &client.version,
            rtt: client.round_trip_ns,
            server: &client.server,
            kind: &client.kind,
            client_type: &client.client_type,
        }
    }
}

/// Somebody called the API.
pub fn api_audit(
    context: &mut EventContext<'_>,
    server_name: &str,
    client: &ClientFacts,
    subject: &[u8],
    request: &[u8],
    response: &[u8],
) {
    #[derive(Serialize)]
    struct Body<'a> {
        server: &'a str,
        client: ClientBody<'a>,
        subject: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        request: &'a str,
        response: &'a str,
    }
    let body = Body {
        server: server_name,
        client: ClientBody::new(client),
        subject: &String::from_utf8_lossy(subject),
        request: &String::from_utf8_lossy(request),
        response: &String::from_utf8_lossy(response),
    };
    emit(context, "ADVISORY.API", "advisory.v1.api_audit", &body);
}

/// Whether anybody would see an audit event: asked first, since building one is not free.
#[must_use]
pub fn audit_is_wanted(out: &dyn Outbound, account: AccountRef) -> bool {
    out.has_interest(account, b"$JS.EVENT.ADVISORY.API")
}
