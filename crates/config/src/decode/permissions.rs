//! Permission blocks: what a user may publish and subscribe to.

use millrace_subject::is_valid_subject;

use super::{Decoder, Field, field};
use crate::language::{Entry, Value};
use crate::options::{PermissionOptions, ResponseOptions, SubjectList};

/// Reads a permissions block.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<PermissionOptions> {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.shown();
        decoder.error(
            entry,
            format!("Expected permissions to be a map/struct, got {found}"),
        );
        return None;
    };
    let mut permissions = PermissionOptions::default();
    let table: Vec<&Field<PermissionOptions>> = FIELDS.iter().collect();
    decoder.fields(map, &mut permissions, &table, unknown);
    Some(permissions)
}

fn unknown(key: &str) -> String {
    format!("Unknown field {key:?} parsing permissions")
}

const FIELDS: &[Field<PermissionOptions>] = &[
    field(&["publish", "pub", "import"], |d, p, e| {
        p.publish = subjects(d, e, false)
    }),
    field(&["subscribe", "sub", "export"], |d, p, e| {
        p.subscribe = subjects(d, e, true)
    }),
    field(
        &["allow_responses", "publish_allow_responses"],
        |d, p, e| {
            p.allow_responses = responses(d, e);
        },
    ),
];

/// A subject, a list of them (both mean allow), or a map with `allow` and `deny`.
fn subjects(decoder: &mut Decoder<'_>, entry: &Entry, queues: bool) -> Option<SubjectList> {
    let mut list = SubjectList::default();
    let Value::Map(map) = &entry.value else {
        list.allow = subject_list(decoder, entry, queues);
        return Some(list);
    };
    for item in map.in_file_order() {
        match item.key.to_ascii_lowercase().as_str() {
            "allow" => list.allow = subject_list(decoder, item, queues),
            "deny" => list.deny = subject_list(decoder, item, queues),
            _ if item.referenced => {}
            _ => {
                let key = &item.key;
                let text = format!(
                    "Unknown field name {key:?} parsing subject permissions, only 'allow' or 'deny' are permitted"
                );
                decoder.error(item, text);
            }
        }
    }
    Some(list)
}

fn subject_list(decoder: &mut Decoder<'_>, entry: &Entry, queues: bool) -> Vec<String> {
    let elements = match &entry.value {
        Value::Text(_) => std::slice::from_ref(entry),
        Value::Array(elements) => elements.as_slice(),
        _ => {
            decoder.error(
                entry,
                "Expected subject permissions to be a subject, or array of subjects",
            );
            return Vec::new();
        }
    };
    let mut list = Vec::new();
    for element in elements {
        let Some(text) = decoder.text(element) else {
            continue;
        };
        if is_valid_entry(&text, queues) {
            list.push(text);
        } else {
            decoder.error(element, format!("subject {text:?} is not a valid subject"));
        }
    }
    list
}

/// A subject, in subscribe lists optionally followed by a queue name that may have wildcards.
fn is_valid_entry(text: &str, queues: bool) -> bool {
    let mut parts = text.split_whitespace();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(subject), None, None) => is_valid_subject(subject.as_bytes()),
        (Some(subject), Some(queue), None) if queues => {
            is_valid_subject(subject.as_bytes()) && is_valid_subject(queue.as_bytes())
        }
        _ => false,
    }
}

fn responses(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<ResponseOptions> {
    let mut responses = ResponseOptions::default();
    match &entry.value {
        Value::Bool(allowed) => allowed.then_some(responses),
        Value::Map(map) => {
            let table: Vec<&Field<ResponseOptions>> = RESPONSES.iter().collect();
            decoder.fields(map, &mut responses, &table, unknown);
            Some(responses)
        }
        _ => {
            let text = "error parsing response permissions, expected a boolean or a map";
            decoder.error(entry, text);
            None
        }
    }
}

/// Zero keeps the default.
const RESPONSES: &[Field<ResponseOptions>] = &[
    field(
        &["max", "max_msgs", "max_messages", "max_responses"],
        |d, r, e| {
            if let Some(max) = d.integer(e).filter(|max| *max != 0) {
                r.max_messages = max;
            }
        },
    ),
    field(&["expires", "expiration", "ttl"], |d, r, e| {
        if let Some(expires) = d.duration(e).filter(|expires| *expires != 0) {
            r.expires_ns = expires;
        }
    }),
];
