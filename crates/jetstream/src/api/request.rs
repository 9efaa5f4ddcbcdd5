//! Which request a subject under `$JS.API.` is (spec jetstream/05). Bodies are read by whoever
//! answers; direct get and pull requests have endpoints of their own.

use crate::model::ConsumerAddress;

/// The prefix of all API subjects, with its final dot.
pub const PREFIX: &str = "$JS.API.";

/// An API request by its subject. `stream` and `consumer` are tokens as they stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiRequest<'a> {
    /// `INFO`
    AccountInfo,
    /// `STREAM.NAMES`
    StreamNames,
    /// `STREAM.LIST`
    StreamList,
    /// A request about one stream.
    Stream { call: StreamCall, stream: &'a str },
    /// `CONSUMER.CREATE.…`, `CONSUMER.DURABLE.CREATE.…`
    ConsumerCreate(ConsumerAddress<'a>),
    /// `CONSUMER.NAMES.<stream>`
    ConsumerNames { stream: &'a str },
    /// `CONSUMER.LIST.<stream>`
    ConsumerList { stream: &'a str },
    /// A request about one consumer.
    Consumer {
        call: ConsumerCall,
        stream: &'a str,
        consumer: &'a str,
    },
    /// `CONSUMER.MSG.NEXT.<stream>.<consumer>`: has an endpoint of its own, if the consumer exists.
    NextRequest { stream: &'a str, consumer: &'a str },
    /// `DIRECT.GET.<stream>…`: has an endpoint of its own, if the stream allows it.
    DirectGet { stream: &'a str },
}

/// What is asked about one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamCall {
    Create,
    Update,
    Info,
    Delete,
    Purge,
    MessageGet,
    MessageDelete,
    Snapshot,
    Restore,
    LeaderStepdown,
    PeerRemove,
    PeerEvacuate,
    CancelMove,
}

/// What is asked about one consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerCall {
    Info,
    Delete,
    Pause,
    Unpin,
    Reset,
    /// Why it is not delivering: a call of our own.
    Explain,
    LeaderStepdown,
    PeerRemove,
    PeerEvacuate,
}

impl<'a> ApiRequest<'a> {
    /// Reads a whole subject. `None`: no such call, which nobody answers.
    #[must_use]
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let subject = std::str::from_utf8(subject).ok()?;
        let call = without_prefix(subject)?;
        if let Some(rest) = call.strip_prefix("STREAM.") {
            return parse_stream(rest);
        }
        if let Some(rest) = call.strip_prefix("CONSUMER.") {
            return parse_consumer(rest);
        }
        if let Some(rest) = call.strip_prefix("DIRECT.GET.") {
            let stream = rest.split('.').next()?;
            return Some(Self::DirectGet { stream });
        }
        (call == "INFO").then_some(Self::AccountInfo)
    }

    /// The stream that a request about an existing stream names.
    #[must_use]
    pub fn existing_stream(self) -> Option<&'a str> {
        match self {
            Self::Stream { call, stream } => (call != StreamCall::Create).then_some(stream),
            Self::ConsumerCreate(address) => Some(address.stream),
            Self::ConsumerNames { stream }
            | Self::ConsumerList { stream }
            | Self::Consumer { stream, .. } => Some(stream),
            Self::AccountInfo | Self::StreamNames | Self::StreamList => None,
            Self::NextRequest { .. } | Self::DirectGet { .. } => None,
        }
    }

    /// The last part of the answer's type, `io.nats.jetstream.api.v1.<this>`.
    #[must_use]
    pub fn response_type(self) -> &'static str {
        match self {
            Self::AccountInfo => "account_info_response",
            Self::StreamNames => "stream_names_response",
            Self::StreamList => "stream_list_response",
            Self::Stream { call, .. } => call.response_type(),
            Self::ConsumerCreate(_) => "consumer_create_response",
            Self::ConsumerNames { .. } => "consumer_names_response",
            Self::ConsumerList { .. } => "consumer_list_response",
            Self::Consumer { call, .. } => call.response_type(),
            Self::NextRequest { .. } | Self::DirectGet { .. } => "system_response",
        }
    }
}

impl StreamCall {
    const ALL: [(&'static str, Self); 13] = [
        ("CREATE", Self::Create),
        ("UPDATE", Self::Update),
        ("INFO", Self::Info),
        ("DELETE", Self::Delete),
        ("PURGE", Self::Purge),
        ("MSG.GET", Self::MessageGet),
        ("MSG.DELETE", Self::MessageDelete),
        ("SNAPSHOT", Self::Snapshot),
        ("RESTORE", Self::Restore),
        ("LEADER.STEPDOWN", Self::LeaderStepdown),
        ("PEER.REMOVE", Self::PeerRemove),
        ("PEER.EVACUATE", Self::PeerEvacuate),
        ("CANCEL_MOVE", Self::CancelMove),
    ];

    fn response_type(self) -> &'static str {
        match self {
            Self::Create => "stream_create_response",
            Self::Update => "stream_update_response",
            Self::Info => "stream_info_response",
            Self::Delete => "stream_delete_response",
            Self::Purge => "stream_purge_response",
            Self::MessageGet => "stream_msg_get_response",
            Self::MessageDelete => "stream_msg_delete_response",
            Self::Snapshot => "stream_snapshot_response",
            Self::Restore => "stream_restore_response",
            Self::LeaderStepdown => "stream_leader_stepdown_response",
            Self::PeerRemove => "stream_remove_peer_response",
            Self::PeerEvacuate => "stream_evacuate_peer_response",
            Self::CancelMove => "stream_cancel_move_response",
        }
    }
}

impl ConsumerCall {
    const ALL: [(&'static str, Self); 9] = [
        ("INFO", Self::Info),
        ("EXPLAIN", Self::Explain),
        ("DELETE", Self::Delete),
        ("PAUSE", Self::Pause),
        ("UNPIN", Self::Unpin),
        ("RESET", Self::Reset),
        ("LEADER.STEPDOWN", Self::LeaderStepdown),
        ("PEER.REMOVE", Self::PeerRemove),
        ("PEER.EVACUATE", Self::PeerEvacuate),
    ];

    fn response_type(self) -> &'static str {
        match self {
            Self::Info => "consumer_info_response",
            Self::Explain => "consumer_explain_response",
            Self::Delete => "consumer_delete_response",
            Self::Pause => "consumer_pause_response",
            Self::Unpin => "consumer_unpin_response",
            Self::Reset => "consumer_reset_response",
            Self::LeaderStepdown => "consumer_leader_stepdown_response",
            Self::PeerRemove => "consumer_remove_peer_response",
            Self::PeerEvacuate => "consumer_evacuate_peer_response",
        }
    }
}

/// What stands behind `$JS.API.`, or behind `$JS.<domain>.API.`: only our own domain is bound.
pub(super) fn without_prefix(subject: &str) -> Option<&str> {
    if let Some(call) = subject.strip_prefix(PREFIX) {
        return Some(call);
    }
    let (_, rest) = subject.strip_prefix("$JS.")?.split_once('.')?;
    rest.strip_prefix("API.")
}

fn parse_stream(rest: &str) -> Option<ApiRequest<'_>> {
    match rest {
        "NAMES" => return Some(ApiRequest::StreamNames),
        "LIST" => return Some(ApiRequest::StreamList),
        _ => {}
    }
    let (verb, stream) = rest.rsplit_once('.')?;
    let (_, call) = StreamCall::ALL
        .into_iter()
        .find(|(name, _)| *name == verb)?;
    (!stream.is_empty()).then_some(ApiRequest::Stream { call, stream })
}

fn parse_consumer(rest: &str) -> Option<ApiRequest<'_>> {
    if let Some(address) = rest.strip_prefix("CREATE.") {
        let mut parts = address.splitn(3, '.');
        return Some(ApiRequest::ConsumerCreate(ConsumerAddress {
            durable: false,
            stream: parts.next()?,
            name: parts.next(),
            filter: parts.next(),
        }));
    }
    if let Some(address) = rest.strip_prefix("DURABLE.CREATE.") {
        let (stream, name) = two_tokens(address)?;
        return Some(ApiRequest::ConsumerCreate(ConsumerAddress {
            durable: true,
            stream,
            name: Some(name),
            filter: None,
        }));
    }
    let one_token = |text: &'_ str| !text.is_empty() && !text.contains('.');
    if let Some(stream) = rest.strip_prefix("NAMES.") {
        return one_token(stream).then_some(ApiRequest::ConsumerNames { stream });
    }
    if let Some(stream) = rest.strip_prefix("LIST.") {
        return one_token(stream).then_some(ApiRequest::ConsumerList { stream });
    }
    if let Some(address) = rest.strip_prefix("MSG.NEXT.") {
        let (stream, consumer) = two_tokens(address)?;
        return Some(ApiRequest::NextRequest { stream, consumer });
    }
    let (rest, consumer) = rest.rsplit_once('.')?;
    let (verb, stream) = rest.rsplit_once('.')?;
    let (_, call) = ConsumerCall::ALL
        .into_iter()
        .find(|(name, _)| *name == verb)?;
    Some(ApiRequest::Consumer {
        call,
        stream,
        consumer,
    })
}

fn two_tokens(text: &str) -> Option<(&str, &str)> {
    text.split_once('.')
        .filter(|(_, second)| !second.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_their_calls_and_unknown_ones_none() {
        let parse = |call: &'static str| ApiRequest::parse(call.as_bytes());
        assert_eq!(parse("$JS.API.INFO"), Some(ApiRequest::AccountInfo));
        assert_eq!(parse("$JS.hub.API.INFO"), Some(ApiRequest::AccountInfo));
        assert_eq!(parse("$JS.hub.INFO"), None);
        assert_eq!(
            parse("$JS.API.STREAM.MSG.GET.A"),
            Some(ApiRequest::Stream {
                call: StreamCall::MessageGet,
                stream: "A"
            })
        );
        assert_eq!(
            parse("$JS.API.CONSUMER.LEADER.STEPDOWN.A.b"),
            Some(ApiRequest::Consumer {
                call: ConsumerCall::LeaderStepdown,
                stream: "A",
                consumer: "b"
            })
        );
        assert_eq!(
            parse("$JS.API.CONSUMER.CREATE.A.b.x.>"),
            Some(ApiRequest::ConsumerCreate(ConsumerAddress {
                durable: false,
                stream: "A",
                name: Some("b"),
                filter: Some("x.>"),
            }))
        );
        for unknown in [
            "$JS.API.FOO",
            "$JS.API.STREAM.INFO",
            "$JS.API.STREAM.INFO.A.B",
            "$JS.API.CONSUMER.INFO.A",
            "$JS.API.STREAM.FOO.A",
            "$JS.API.META.LEADER.STEPDOWN",
        ] {
            assert_eq!(parse(unknown), None, "{unknown}");
        }
    }
}
