//! The `jetstream` block.

use super::scalar::parse_storage_size;
use super::unsupported::{accept, unsupported};
use super::{Decoder, Field, field, unknown_field};
use crate::language::{Entry, Value};
use crate::options::{BatchLimits, JetStreamLimits, JetStreamOptions, StoreCipher, SyncInterval};

const MIN_CONCURRENT_IO: i64 = 4;
const MAX_CONCURRENT_IO: i64 = 8192;

/// Reads the `jetstream` block: a switch or a map.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry, options: &mut JetStreamOptions) {
    match &entry.value {
        Value::Bool(enabled) => options.enabled = *enabled,
        Value::Text(text) => match is_enabled_word(text) {
            Some(enabled) => options.enabled = enabled,
            None => decoder.error(
                entry,
                format!("Expected 'enabled' or 'disabled' for string value, got '{text}'"),
            ),
        },
        Value::Map(map) => {
            options.enabled = true;
            let table: Vec<&Field<JetStreamOptions>> = [FIELDS, QUEUES, ENCRYPTION, NOT_YET]
                .into_iter()
                .flatten()
                .collect();
            decoder.fields(map, options, &table, unknown_field);
        }
        other => {
            let found = other.type_name();
            let text = format!("Expected map, bool or string to define JetStream, got {found}");
            decoder.error(entry, text);
        }
    }
}

/// What `enabled` and `disabled` stand for.
pub(super) fn is_enabled_word(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "enabled" | "enable" => Some(true),
        "disabled" | "disable" => Some(false),
        _ => None,
    }
}

/// The store folder, which may be given at the top level or in the block, but once.
pub(super) fn store_dir(decoder: &mut Decoder<'_>, options: &mut JetStreamOptions, entry: &Entry) {
    if options.store_dir.is_some() {
        decoder.error(entry, "Duplicate 'store_dir' configuration");
        return;
    }
    decoder.set_text(entry, &mut options.store_dir);
}

const FIELDS: &[Field<JetStreamOptions>] = &[
    field(&["enabled", "enable"], |d, j, e| {
        d.set_bool(e, &mut j.enabled)
    }),
    field(&["strict"], |d, j, e| d.set_bool(e, &mut j.strict)),
    field(&["store_dir", "store", "storedir"], store_dir),
    field(&["sync_interval", "sync"], sync_interval),
    field(
        &["max_memory_store", "max_mem_store", "max_mem"],
        |d, j, e| {
            server_size(d, e, "max_mem_store", &mut j.max_memory);
        },
    ),
    // Ours alone: what streams keep in memory of messages on disk, and of indexes.
    field(&["max_cache"], |d, j, e| {
        server_size(d, e, "max_cache", &mut j.max_cache);
    }),
    // Ours alone: how often checksums of what is on disk are looked at; 0: never.
    field(&["scrub_interval"], |d, j, e| {
        d.set_duration_or_seconds(e, &mut j.scrub_interval_ns);
    }),
    field(&["max_file_store", "max_file"], |d, j, e| {
        server_size(d, e, "max_file_store", &mut j.max_file);
    }),
    field(&["domain"], |d, j, e| d.set_text(e, &mut j.domain)),
    field(&["extension_hint"], |d, j, e| {
        d.set_text(e, &mut j.extension_hint)
    }),
    field(&["unique_tag"], |d, j, e| d.set_text(e, &mut j.unique_tag)),
    field(&["limits"], limits),
];

const QUEUES: &[Field<JetStreamOptions>] = &[
    field(&["max_outstanding_catchup"], |d, j, e| {
        unsigned_size(d, e, &mut j.max_outstanding_catchup);
    }),
    field(&["max_buffered_size"], |d, j, e| {
        unsigned_size(d, e, &mut j.max_buffered_size)
    }),
    field(&["max_buffered_msgs"], |d, j, e| {
        d.set_integer(e, &mut j.max_buffered_messages)
    }),
    field(&["request_queue_limit"], |d, j, e| {
        d.set_integer(e, &mut j.request_queue_limit)
    }),
    field(&["info_queue_limit"], |d, j, e| {
        d.set_integer(e, &mut j.info_queue_limit)
    }),
    field(&["max_concurrent_io"], max_concurrent_io),
    // How often the reference rewrites its meta snapshot; our meta group shares the journal.
    field(
        &["meta_compact", "meta_compact_size", "meta_compact_sync"],
        accept,
    ),
];

const ENCRYPTION: &[Field<JetStreamOptions>] = &[
    field(&["key", "ek", "encryption_key"], |d, j, e| {
        d.set_text(e, &mut j.encryption_key);
    }),
    field(
        &["prev_key", "prev_ek", "prev_encryption_key"],
        |d, j, e| {
            d.set_text(e, &mut j.previous_encryption_key);
        },
    ),
    field(&["cipher"], cipher),
];

const NOT_YET: &[Field<JetStreamOptions>] = &[unsupported(&["tpm"])];

fn cipher(decoder: &mut Decoder<'_>, options: &mut JetStreamOptions, entry: &Entry) {
    let Some(name) = entry.value.as_text() else {
        let found = entry.value.type_name();
        decoder.error(entry, format!("Expected a name of a cipher, got {found}"));
        return;
    };
    match name.to_ascii_lowercase().as_str() {
        "chacha" | "chachapoly" => options.cipher = StoreCipher::ChaCha,
        "aes" => options.cipher = StoreCipher::Aes,
        _ => decoder.error(entry, format!("Unknown cipher type: {name:?}")),
    }
}

fn sync_interval(decoder: &mut Decoder<'_>, options: &mut JetStreamOptions, entry: &Entry) {
    if entry
        .value
        .as_text()
        .is_some_and(|text| text.eq_ignore_ascii_case("always"))
    {
        options.sync_interval = SyncInterval::Always;
        return;
    }
    let mut interval_ns = 0;
    decoder.set_duration_or_seconds(entry, &mut interval_ns);
    options.sync_interval = SyncInterval::Interval { interval_ns };
}

fn max_concurrent_io(decoder: &mut Decoder<'_>, options: &mut JetStreamOptions, entry: &Entry) {
    let Some(value) = decoder.integer(entry) else {
        return;
    };
    if (MIN_CONCURRENT_IO..=MAX_CONCURRENT_IO).contains(&value) {
        options.max_concurrent_io = u64::try_from(value).unwrap_or(0);
    } else {
        decoder.error(
            entry,
            format!(
                "Expected an absolute size for \"max_concurrent_io\" between \
                 {MIN_CONCURRENT_IO} and {MAX_CONCURRENT_IO}, got {value}"
            ),
        );
    }
}

/// A size as number or as text like `10G`.
pub(super) fn storage_size(decoder: &mut Decoder<'_>, entry: &Entry, target: &mut i64) {
    let size = match &entry.value {
        Value::Integer(size) => Some(*size),
        Value::Text(text) => parse_storage_size(text).ok(),
        _ => None,
    };
    match size {
        Some(size) => *target = size,
        None => {
            let shown = entry
                .value
                .as_text()
                .unwrap_or_else(|| entry.value.type_name());
            let text = format!("Expected a parseable size for {:?}, got {shown}", entry.key);
            decoder.error(entry, text);
        }
    }
}

/// A server-wide store size; negative leaves the choice to the host.
fn server_size(decoder: &mut Decoder<'_>, entry: &Entry, name: &str, target: &mut Option<u64>) {
    let size = match &entry.value {
        Value::Integer(size) => Ok(*size),
        Value::Text(text) => parse_storage_size(text),
        _ => Err("must be int64 or string".to_owned()),
    };
    match size {
        Ok(size) => *target = u64::try_from(size).ok(),
        Err(reason) => decoder.error(entry, format!("{name} {reason}")),
    }
}

fn unsigned_size(decoder: &mut Decoder<'_>, entry: &Entry, target: &mut u64) {
    let mut size = 0;
    storage_size(decoder, entry, &mut size);
    match u64::try_from(size) {
        Ok(size) => *target = size,
        Err(_) => decoder.error(entry, format!("{} must not be negative", entry.key)),
    }
}

fn limits(decoder: &mut Decoder<'_>, options: &mut JetStreamOptions, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        decoder.error(
            entry,
            format!("Expected a map to define JetStreamLimits, got {found}"),
        );
        return;
    };
    let table: Vec<&Field<JetStreamLimits>> = LIMITS.iter().collect();
    decoder.fields(map, &mut options.limits, &table, unknown_field);
}

const LIMITS: &[Field<JetStreamLimits>] = &[
    field(&["max_ack_pending"], |d, l, e| {
        limit(d, e, &mut l.max_ack_pending)
    }),
    field(&["max_ha_assets"], |d, l, e| {
        limit(d, e, &mut l.max_ha_assets)
    }),
    field(&["max_request_batch"], |d, l, e| {
        limit(d, e, &mut l.max_request_batch)
    }),
    field(&["duplicate_window"], |d, l, e| {
        let window = d.duration(e).map(u64::try_from).and_then(Result::ok);
        l.duplicate_window_ns = window.filter(|window| *window > 0);
    }),
    field(&["default_max_consumers"], |d, l, e| {
        l.default_max_consumers = d.integer(e)
    }),
    field(&["batch"], |d, l, e| {
        if let Some(map) = d.map(e) {
            let table: Vec<&Field<BatchLimits>> = BATCH.iter().collect();
            d.fields(map, &mut l.batch, &table, unknown_field);
        }
    }),
];

/// A limit of which zero and negative values say that there is none.
fn limit(decoder: &mut Decoder<'_>, entry: &Entry, target: &mut Option<u64>) {
    if let Some(value) = decoder.integer(entry) {
        *target = u64::try_from(value).ok().filter(|value| *value > 0);
    }
}

const BATCH: &[Field<BatchLimits>] = &[
    field(&["max_inflight_per_stream"], |d, b, e| {
        d.set_integer(e, &mut b.max_inflight_per_stream);
        b.fast_inflight_per_stream = b.max_inflight_per_stream;
    }),
    field(&["max_inflight_total"], |d, b, e| {
        d.set_integer(e, &mut b.max_inflight_total);
        b.fast_inflight_total = b.max_inflight_total;
    }),
    field(&["max_msgs"], |d, b, e| {
        d.set_integer(e, &mut b.max_messages)
    }),
    field(&["timeout"], |d, b, e| d.set_duration(e, &mut b.timeout_ns)),
];
