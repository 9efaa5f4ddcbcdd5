//! Answers of the API as JSON: the envelope with type and error, and what stands beside it. Field
//! sets are the reference's, also beside an error.

use serde::Serialize;

use super::request::{ApiRequest, ConsumerCall, StreamCall};
use crate::error::ApiError;
use crate::model::json::{encode, is_zero};
use crate::model::{AccountInfo, ConsumerInfo, StreamConfig, StreamInfo, StreamState, Timestamp};

const TYPE_PREFIX: &str = "io.nats.jetstream.api.v1.";

/// The envelope around every answer.
#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
    #[serde(flatten)]
    body: &'a Body,
}

/// Where a page of a listing stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// How many there are altogether.
    pub total: u64,
    /// The first of this page.
    pub offset: u64,
    /// The most a page holds.
    pub limit: u64,
}

/// What stands in an answer beside type and error.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Body {
    /// Nothing.
    Empty {},
    /// `{"success":true}`
    Success {
        success: bool,
    },
    Account(Box<AccountInfo>),
    /// Stream create.
    StreamCreated {
        #[serde(flatten)]
        info: Box<StreamInfo>,
        #[serde(skip_serializing_if = "is_zero")]
        did_create: bool,
    },
    /// Stream update.
    StreamUpdated(Box<StreamInfo>),
    /// Stream info.
    StreamInfo {
        #[serde(flatten)]
        page: Page,
        #[serde(flatten)]
        info: Option<Box<StreamInfo>>,
    },
    /// Stream names.
    StreamNames {
        #[serde(flatten)]
        page: Page,
        streams: Option<Vec<String>>,
    },
    /// Stream list.
    StreamList {
        #[serde(flatten)]
        page: Page,
        streams: Vec<StreamInfo>,
    },
    /// Purge.
    Purged {
        #[serde(skip_serializing_if = "is_zero")]
        success: bool,
        purged: u64,
    },
    /// Message get.
    Message {
        message: StoredMessageView,
    },
    /// Snapshot.
    Snapshot {
        config: Box<StreamConfig>,
        state: Box<StreamState>,
    },
    /// Restore.
    Restore {
        deliver_subject: String,
    },
    /// Consumer create and info.
    Consumer(Box<ConsumerInfo>),
    /// Consumer reset.
    ConsumerReset {
        #[serde(flatten)]
        info: Option<Box<ConsumerInfo>>,
        reset_seq: u64,
    },
    /// Consumer names.
    ConsumerNames {
        #[serde(flatten)]
        page: Page,
        consumers: Vec<String>,
    },
    /// Consumer list.
    ConsumerList {
        #[serde(flatten)]
        page: Page,
        consumers: Vec<ConsumerInfo>,
    },
    /// Why a consumer is not delivering.
    Explanation(Box<crate::consumer::Explanation>),
    /// Consumer pause.
    Paused {
        paused: bool,
        pause_until: Timestamp,
        #[serde(rename = "pause_remaining", skip_serializing_if = "is_zero")]
        pause_remaining_ns: i64,
    },
}

/// A stored message in an answer; bytes in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StoredMessageView {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub seq: u64,
    /// Its header block.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hdrs: String,
    /// Its payload.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// When it was stored.
    pub time: Timestamp,
}

/// The answer of a request that worked.
#[must_use]
pub fn success(request: ApiRequest<'_>, body: &Body) -> Vec<u8> {
    let kind = format!("{TYPE_PREFIX}{}", request.response_type());
    encode(&Envelope {
        kind,
        error: None,
        body,
    })
}

/// The answer of a request that failed.
#[must_use]
pub fn failure(request: ApiRequest<'_>, error: &ApiError) -> Vec<u8> {
    let kind = format!("{TYPE_PREFIX}{}", request.response_type());
    encode(&Envelope {
        kind,
        error: Some(error),
        body: &beside_error(request),
    })
}

/// What the reference prints beside an error: fields without an omit rule, at zero.
fn beside_error(request: ApiRequest<'_>) -> Body {
    let page = Page::default();
    match request {
        ApiRequest::StreamNames => Body::StreamNames {
            page,
            streams: None,
        },
        ApiRequest::StreamList => Body::StreamList {
            page,
            streams: Vec::new(),
        },
        ApiRequest::ConsumerNames { .. } => Body::ConsumerNames {
            page,
            consumers: Vec::new(),
        },
        ApiRequest::ConsumerList { .. } => Body::ConsumerList {
            page,
            consumers: Vec::new(),
        },
        ApiRequest::Stream {
            call: StreamCall::Info,
            ..
        } => Body::StreamInfo { page, info: None },
        ApiRequest::Stream {
            call: StreamCall::Purge,
            ..
        } => Body::Purged {
            success: false,
            purged: 0,
        },
        ApiRequest::Stream {
            call: StreamCall::Restore,
            ..
        } => Body::Restore {
            deliver_subject: String::new(),
        },
        ApiRequest::Consumer {
            call: ConsumerCall::Pause,
            ..
        } => Body::Paused {
            paused: false,
            pause_until: Timestamp::ZERO,
            pause_remaining_ns: 0,
        },
        ApiRequest::Consumer {
            call: ConsumerCall::Reset,
            ..
        } => Body::ConsumerReset {
            info: None,
            reset_seq: 0,
        },
        _ => Body::Empty {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn failed(subject: &str) -> String {
        let request = ApiRequest::parse(subject.as_bytes()).expect("a known call");
        let answer = failure(request, &ErrorCode::StreamNotFound.into());
        String::from_utf8(answer).expect("UTF-8").replace(
            r#""error":{"code":404,"err_code":10059,"description":"stream not found"}"#,
            "E",
        )
    }

    // proves: JS-API-02
    #[test]
    fn errors_carry_the_fields_the_reference_prints_beside_them() {
        for (subject, expected) in [
            (
                "STREAM.INFO.x",
                r#"stream_info_response",E,"total":0,"offset":0,"limit":0}"#,
            ),
            (
                "STREAM.NAMES",
                r#"stream_names_response",E,"total":0,"offset":0,"limit":0,"streams":null}"#,
            ),
            (
                "STREAM.LIST",
                r#"stream_list_response",E,"total":0,"offset":0,"limit":0,"streams":[]}"#,
            ),
            ("STREAM.PURGE.x", r#"stream_purge_response",E,"purged":0}"#),
            (
                "CONSUMER.PAUSE.x.y",
                r#"consumer_pause_response",E,"paused":false,"pause_until":"0001-01-01T00:00:00Z"}"#,
            ),
            (
                "CONSUMER.RESET.x.y",
                r#"consumer_reset_response",E,"reset_seq":0}"#,
            ),
            ("STREAM.DELETE.x", r#"stream_delete_response",E}"#),
        ] {
            let expected = format!("{{\"type\":\"{TYPE_PREFIX}{expected}");
            assert_eq!(failed(&format!("$JS.API.{subject}")), expected);
        }
    }
}
