//! What a request needs of a server that has just started: nothing, a stream that is whole, its
//! index too, or every stream of the account. Other than that it is not looked at here.

use super::dispatch::is_empty_body;
use super::request::{ApiRequest, ConsumerCall, StreamCall};
use crate::io::Message;

/// What must be there before a request is handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// This stream must be as its log says.
    pub(crate) stream: Option<String>,
    /// And the index of its messages in memory.
    pub(crate) index: bool,
    /// All streams of the account must be as their logs say.
    pub(crate) of_account: bool,
}

/// What the request on this subject needs.
pub(crate) fn need_of(message: &Message) -> Need {
    let plain = is_empty_body(&message.payload);
    let of_stream = |stream: &str, index: bool| Need {
        stream: Some(stream.to_owned()),
        index,
        of_account: false,
    };
    let of_account = Need {
        of_account: true,
        ..Need::default()
    };
    match ApiRequest::parse(&message.subject) {
        Some(ApiRequest::AccountInfo | ApiRequest::StreamList) => of_account,
        // Names are known from the meta group; subjects may have changed since.
        Some(ApiRequest::StreamNames) if !plain => of_account,
        Some(ApiRequest::Stream { call, stream }) => match call {
            StreamCall::Info => of_stream(stream, !plain),
            StreamCall::Delete => of_stream(stream, false),
            StreamCall::Create => Need {
                of_account: true,
                ..of_stream(stream, false)
            },
            StreamCall::Update => Need {
                of_account: true,
                ..of_stream(stream, true)
            },
            StreamCall::Purge
            | StreamCall::MessageGet
            | StreamCall::MessageDelete
            | StreamCall::Snapshot => of_stream(stream, true),
            StreamCall::Restore => of_account,
            _ => Need::default(),
        },
        Some(ApiRequest::ConsumerCreate(address)) => of_stream(address.stream, true),
        Some(ApiRequest::ConsumerNames { stream } | ApiRequest::ConsumerList { stream }) => {
            of_stream(stream, false)
        }
        Some(ApiRequest::Consumer { call, stream, .. }) => {
            of_stream(stream, call != ConsumerCall::Info)
        }
        _ => Need::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(subject: &str, payload: &'static str) -> (Option<String>, bool, bool) {
        let message = Message {
            subject: subject.to_owned().into(),
            payload: payload.into(),
            ..Message::default()
        };
        let need = need_of(&message);
        (need.stream, need.index, need.of_account)
    }

    #[test]
    fn what_a_checkpoint_knows_is_answered_without_the_index() {
        let stream = || Some("S".to_owned());
        assert_eq!(need("$JS.API.STREAM.INFO.S", ""), (stream(), false, false));
        let details = r#"{"deleted_details":true}"#;
        assert_eq!(
            need("$JS.API.STREAM.INFO.S", details),
            (stream(), true, false)
        );
        assert_eq!(
            need("$JS.API.CONSUMER.INFO.S.c", ""),
            (stream(), false, false)
        );
        assert_eq!(
            need("$JS.API.CONSUMER.DELETE.S.c", ""),
            (stream(), true, false)
        );
        assert_eq!(need("$JS.API.STREAM.NAMES", ""), (None, false, false));
        assert_eq!(need("$JS.API.STREAM.LIST", ""), (None, false, true));
        assert_eq!(need("$JS.API.STREAM.PURGE.S", ""), (stream(), true, false));
    }
}
