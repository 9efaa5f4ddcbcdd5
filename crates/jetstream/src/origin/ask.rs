//! What an origin is asked for: a push consumer of the puller's own, or that a consumer which the user
//! made begins anew; and what it answers.

use bytes::Bytes;
use millrace_wire::json::{Strictness, from_slice};
use serde::{Deserialize, Serialize};

use super::puller::{Kind, Place, Puller};
use crate::io::Message;
use crate::model::{
    AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy, ReportedError, StreamSource,
};
use crate::publish::header_value;

const DEFAULT_API_PREFIX: &str = "$JS.API";
const ACK_WAIT_NS: i64 = 22 * 3_600 * 1_000_000_000;
const HEARTBEAT_NS: i64 = 1_000_000_000;
const INACTIVE_THRESHOLD_NS: i64 = 10 * 1_000_000_000;
/// API levels at which the features are known that a mirror and a source ask for.
const MIRROR_LEVEL: u8 = 4;
const SOURCE_LEVEL: u8 = 5;

/// A request to the origin's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) subject: String,
    pub(super) headers: String,
    pub(super) payload: Vec<u8>,
}

#[derive(Serialize)]
struct CreateRequest<'a> {
    stream_name: &'a str,
    config: ConsumerConfig,
    action: &'static str,
}

/// The prefix of the origin's API.
fn api_prefix(source: &StreamSource) -> &str {
    let external = source.external.as_ref().map(|one| one.api.as_str());
    external
        .filter(|api| !api.is_empty())
        .unwrap_or(DEFAULT_API_PREFIX)
}

/// Where the origin is to deliver; `random` makes it unguessable.
pub(super) fn deliver_subject(puller: &Puller, random: &str) -> String {
    if let Some(consumer) = &puller.source.consumer {
        return consumer.deliver_subject.clone();
    }
    let kind = match puller.kind {
        Kind::Mirror => "M",
        Kind::Source(_) => "S",
    };
    let external = puller.source.external.as_ref();
    match external.filter(|external| !external.deliver.is_empty()) {
        Some(external) => format!("{}.{kind}.{random}", external.deliver),
        None => format!("$JS.{kind}.{random}"),
    }
}

impl Ask {
    /// The consumer for what comes behind the puller's position.
    pub(super) fn consumer(puller: &Puller, place: &Place, deliver_subject: &str) -> Self {
        let source = &puller.source;
        let prefix = api_prefix(source);
        let stream = &source.name;
        let headers = puller.request_headers();
        if let Some(consumer) = &source.consumer {
            let headers = match puller.kind {
                Kind::Mirror => String::new(),
                Kind::Source(_) => headers,
            };
            return Self {
                subject: format!("{prefix}.CONSUMER.RESET.{stream}.{}", consumer.name),
                headers,
                payload: Vec::new(),
            };
        }
        let config = puller.consumer_config(place, deliver_subject);
        let subject = if config.filter_subject.is_empty() {
            format!("{prefix}.CONSUMER.CREATE.{stream}")
        } else {
            let (name, filter) = (&config.name, &config.filter_subject);
            format!("{prefix}.CONSUMER.CREATE.{stream}.{name}.{filter}")
        };
        let request = CreateRequest {
            stream_name: stream,
            config,
            action: "",
        };
        Self {
            subject,
            headers,
            payload: serde_json::to_vec(&request).unwrap_or_default(),
        }
    }

    /// That a consumer of the puller's own is not needed any more.
    pub(super) fn end(source: &StreamSource, consumer: &str) -> Self {
        let prefix = api_prefix(source);
        Self {
            subject: format!("{prefix}.CONSUMER.DELETE.{}.{consumer}", source.name),
            headers: String::new(),
            payload: Vec::new(),
        }
    }
}

impl Puller {
    fn request_headers(&self) -> String {
        match self.kind {
            Kind::Mirror => format!("NATS/1.0\r\nNats-Required-Api-Level: {MIRROR_LEVEL}\r\n\r\n"),
            Kind::Source(_) => {
                let identity = String::from_utf8_lossy(&self.identity);
                format!(
                    "NATS/1.0\r\nNats-Required-Api-Level: {SOURCE_LEVEL}\r\nNats-Stream-Identity: {identity}\r\n\r\n"
                )
            }
        }
    }

    fn consumer_config(&self, place: &Place, deliver_subject: &str) -> ConsumerConfig {
        let source = &self.source;
        let kind = match self.kind {
            Kind::Mirror => "mirror",
            Kind::Source(_) => "src",
        };
        let mut config = ConsumerConfig {
            name: self.consumer_name.clone(),
            ack_policy: AckPolicy::None,
            ack_wait_ns: ACK_WAIT_NS,
            max_deliver: 1,
            replay_policy: ReplayPolicy::Instant,
            flow_control: true,
            deliver_subject: deliver_subject.to_owned(),
            idle_heartbeat_ns: HEARTBEAT_NS,
            inactive_threshold_ns: INACTIVE_THRESHOLD_NS,
            direct: true,
            sourcing: true,
            ..ConsumerConfig::default()
        };
        let facts = [
            ("stream", &place.stream),
            ("acc", &place.account_name),
            ("domain", &place.domain),
        ];
        for (key, value) in facts {
            if !value.is_empty() {
                let key = format!("_nats.{kind}.{key}");
                config.metadata.insert(key, value.clone());
            }
        }
        match source.subject_transforms.as_slice() {
            [] => config.filter_subject.clone_from(&source.filter_subject),
            [one] => config.filter_subject.clone_from(&one.src),
            many => {
                config.filter_subjects = many.iter().map(|one| one.src.clone()).collect();
            }
        }
        self.set_start(&mut config);
        config
    }

    fn set_start(&self, config: &mut ConsumerConfig) {
        let (sequence, time) = if self.position > 0 {
            (self.position + 1, None)
        } else {
            (self.source.opt_start_seq, self.source.opt_start_time)
        };
        if sequence > 0 {
            config.deliver_policy = DeliverPolicy::ByStartSequence;
            config.opt_start_seq = sequence;
        } else if time.is_some() {
            config.deliver_policy = DeliverPolicy::ByStartTime;
            config.opt_start_time = time;
        }
    }
}

/// What the origin said to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Consumer {
        name: String,
        /// What its consumer counts as delivered: copying begins behind it.
        delivered: u64,
        /// Its own count of them.
        consumer_sequence: u64,
        pending: u64,
        identity: Bytes,
        /// Answers to flow control say what was stored.
        acknowledges: bool,
    },
    Refused(ReportedError),
    Unreadable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyBody {
    error: Option<ReportedError>,
    name: String,
    config: ReplyConfig,
    delivered: ReplySequence,
    num_pending: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplyConfig {
    ack_policy: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReplySequence {
    consumer_seq: u64,
    stream_seq: u64,
}

impl Reply {
    pub(super) fn parse(message: &Message) -> Self {
        let Ok(body) = from_slice::<ReplyBody>(&message.payload, Strictness::Lenient) else {
            return Self::Unreadable;
        };
        if let Some(error) = body.error {
            return Self::Refused(error);
        }
        if body.name.is_empty() {
            return Self::Unreadable;
        }
        let identity = header_value(&message.headers, b"Nats-Stream-Identity");
        Self::Consumer {
            name: body.name,
            delivered: body.delivered.stream_seq,
            consumer_sequence: body.delivered.consumer_seq,
            pending: body.num_pending,
            identity: Bytes::copy_from_slice(identity.unwrap_or_default()),
            acknowledges: body.config.ack_policy == "flow_control",
        }
    }
}
