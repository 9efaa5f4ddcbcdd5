//! The `mqtt` block.

use super::super::{Decoder, Field, field, unknown_field};
use super::parts::{duration, integer, link_tls, listen, own_authorization, switch, text};
use crate::language::{Entry, Value};
use crate::options::Options;

const ACK_PENDING_MAX: i64 = 65_535;

pub(in super::super) fn mqtt(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        return decoder.error(entry, format!("Expected mqtt to be a map, got {found}"));
    };
    let mut is_listening = false;
    let table: Vec<&Field<bool>> = FIELDS.iter().collect();
    decoder.fields(map, &mut is_listening, &table, unknown_field);
    if is_listening {
        options.inactive.note("mqtt");
    }
}

const FIELDS: &[Field<bool>] = &[
    field(&["listen"], |d, on, e| {
        *on = true;
        listen(d, on, e);
    }),
    field(&["host", "net"], text),
    field(&["port"], |d, on, e| *on |= d.integer(e).unwrap_or(0) != 0),
    field(&["tls"], link_tls),
    field(&["authorization", "authentication"], own_authorization),
    field(&["no_auth_user"], text),
    field(&["ack_wait", "ackwait"], duration),
    field(&["js_api_timeout", "api_timeout"], duration),
    field(
        &["max_ack_pending", "max_pending", "max_inflight"],
        |d, _, e| {
            if let Some(value) = d.integer(e)
                && !(0..=ACK_PENDING_MAX).contains(&value)
            {
                let text = format!("invalid value {value}, should in [0..{ACK_PENDING_MAX}] range");
                d.error(e, text);
            }
        },
    ),
    field(&["js_domain"], text),
    field(&["stream_replicas"], integer),
    field(&["consumer_replicas"], |d, _, e| {
        d.warning(
            e,
            "consumer replicas setting ignored in this server version",
        );
    }),
    field(&["consumer_memory_storage"], switch),
    field(
        &["consumer_inactive_threshold", "consumer_auto_cleanup"],
        duration,
    ),
    field(&["reject_qos2_publish"], switch),
    field(&["downgrade_qos2_subscribe"], switch),
];
