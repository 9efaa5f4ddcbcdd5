//! Exports and imports of an account, and where its messages are traced. Whether an import is
//! allowed is found out in `crate::sharing`, once all accounts are read.

use millrace_clock::go_duration;
use millrace_subject::is_valid_literal;

use super::{Decoder, unknown_field};
use crate::language::{Entry, Map, Value};
use crate::options::{
    AccountOptions, ExportOptions, ImportOptions, LatencyOptions, MessageTraceOptions, Options,
    ResponseType, SharedKind,
};
use crate::sharing::Sharing;

const WHOLE: i64 = 100;

pub(super) fn exports(decoder: &mut Decoder<'_>, account: &mut AccountOptions, entry: &Entry) {
    let Value::Array(elements) = &entry.value else {
        let found = entry.value.type_name();
        decoder.error(entry, format!("Exports should be an array, got {found}"));
        return;
    };
    for element in elements {
        if let Some(export) = export(decoder, element) {
            account.exports.push(export);
        }
    }
}

fn item<'e>(decoder: &mut Decoder<'_>, entry: &'e Entry, what: &str) -> Option<&'e Map> {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        let text = format!("{what} Items should be a map with type entry, got {found}");
        decoder.error(entry, text);
        return None;
    };
    Some(map)
}

fn export(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<ExportOptions> {
    let map = item(decoder, entry, "Export")?;
    let mut export = ExportOptions::default();
    let mut kind = None;
    let mut only_of_services = Vec::new();
    for field in map.in_file_order() {
        match field.key.to_ascii_lowercase().as_str() {
            word @ ("stream" | "service") => {
                let is_service = word == "service";
                let Some(subject) = field.value.as_text() else {
                    let found = field.value.type_name();
                    let text = format!("Expected {word} name to be string, got {found}");
                    decoder.error(field, text);
                    continue;
                };
                if kind.is_some_and(|known| known != is_service) {
                    let other = if is_service { "stream" } else { "service" };
                    let text = format!("Detected {word} {subject:?} but already saw a {other}");
                    decoder.error(field, text);
                    continue;
                }
                kind = Some(is_service);
                subject.clone_into(&mut export.subject);
            }
            "accounts" => {
                let accounts = decoder.texts(field);
                export.accounts = Some(accounts).filter(|accounts| !accounts.is_empty());
            }
            "account_token_position" => {
                decoder.set_integer(field, &mut export.account_token_position);
            }
            "response" | "response_type" => {
                only_of_services.push((field, "response"));
                response_type(decoder, field, &mut export);
            }
            "threshold" | "response_threshold" | "response_max_time" | "response_time" => {
                only_of_services.push((field, "response"));
                threshold(decoder, field, &mut export);
            }
            "latency" => {
                only_of_services.push((field, "latency"));
                export.latency = latency(decoder, field);
            }
            "allow_trace" => {
                only_of_services.push((field, "allow_trace"));
                decoder.set_bool(field, &mut export.allow_trace);
            }
            _ if field.referenced => {}
            _ => decoder.error(field, unknown_field(&field.key)),
        }
    }
    let is_service = kind?;
    if is_service {
        export.kind = SharedKind::Service;
    } else if let Some((field, directive)) = only_of_services.first() {
        let text = format!("Detected {directive} directive on non-service");
        decoder.error(field, text);
    }
    Some(export)
}

fn response_type(decoder: &mut Decoder<'_>, entry: &Entry, export: &mut ExportOptions) {
    let Some(text) = entry.value.as_text() else {
        let found = entry.value.type_name();
        let text = format!("Expected response type to be string, got {found}");
        decoder.error(entry, text);
        return;
    };
    export.response_type = match text.to_ascii_lowercase().as_str() {
        "single" | "singleton" => ResponseType::Singleton,
        "stream" => ResponseType::Stream,
        "chunk" | "chunked" => ResponseType::Chunked,
        _ => {
            decoder.error(entry, format!("Unknown response type: {text:?}"));
            return;
        }
    };
}

fn threshold(decoder: &mut Decoder<'_>, entry: &Entry, export: &mut ExportOptions) {
    const EXPECTED: &str = "Expected response threshold to be a parseable time duration, got";
    let Some(text) = entry.value.as_text() else {
        let found = entry.value.type_name();
        decoder.error(entry, format!("{EXPECTED} {found}"));
        return;
    };
    let duration = go_duration::parse(text).ok();
    match duration.and_then(|duration| u64::try_from(duration).ok()) {
        // Zero says the same as nothing.
        Some(0) => {}
        Some(duration_ns) => export.response_threshold_ns = duration_ns,
        None => decoder.error(entry, format!("{EXPECTED} {text:?}")),
    }
}

fn latency(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<LatencyOptions> {
    let map = match &entry.value {
        Value::Text(subject) => {
            return Some(LatencyOptions {
                subject: subject.clone(),
                sampling: 100,
            });
        }
        Value::Map(map) => map,
        other => {
            let found = other.type_name();
            let text = format!("Expected latency entry to be a map/struct or string, got {found}");
            decoder.error(entry, text);
            return None;
        }
    };
    let sampling = match map.get("sampling") {
        Some(field) => sampling(decoder, field)?,
        None => 100,
    };
    let Some(field) = map.get("subject") else {
        decoder.error(entry, "Latency subject required, but missing");
        return None;
    };
    let Some(subject) = field.value.as_text() else {
        decoder.error(field, "Expected latency subject to be a string, got string");
        return None;
    };
    Some(LatencyOptions {
        subject: subject.to_owned(),
        sampling,
    })
}

fn sampling(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<u8> {
    let sample = match &entry.value {
        Value::Integer(sample) => *sample,
        Value::Text(text) if text.trim().eq_ignore_ascii_case("headers") => return Some(0),
        Value::Text(text) => match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(sample) => sample,
            Err(_) => {
                let text = format!("Failed to parse latency sample: {text:?} is no number");
                decoder.error(entry, text);
                return None;
            }
        },
        other => {
            let found = other.type_name();
            let text = format!("Expected latency sample to be a string or map/struct, got {found}");
            decoder.error(entry, text);
            return None;
        }
    };
    let valid = u8::try_from(sample).ok();
    let valid = valid.filter(|_| (1..=WHOLE).contains(&sample));
    if valid.is_none() {
        decoder.error(entry, "bad sampling percentage, should be 1-100");
    }
    valid
}

pub(super) fn imports(decoder: &mut Decoder<'_>, account: &mut AccountOptions, entry: &Entry) {
    let Value::Array(elements) = &entry.value else {
        let found = entry.value.type_name();
        decoder.error(entry, format!("Imports should be an array, got {found}"));
        return;
    };
    for element in elements {
        let Some(import) = import(decoder, element) else {
            continue;
        };
        let is_same = |known: &&ImportOptions| {
            known.kind == SharedKind::Service
                && import.kind == SharedKind::Service
                && known.account == import.account
                && known.local_subject() == import.local_subject()
        };
        if let Some(known) = account.imports.iter().find(is_same) {
            let text = format!(
                "Duplicate service import subject {:?}, previously used in import for account \
                 {:?}, subject {:?}",
                import.local_subject(),
                known.account,
                known.subject
            );
            decoder.error(element, text);
            continue;
        }
        account.imports.push(import);
    }
}

fn import(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<ImportOptions> {
    let map = item(decoder, entry, "Import")?;
    let mut import = ImportOptions::default();
    let mut kind = None;
    let mut trace = None;
    for field in map.in_file_order() {
        match field.key.to_ascii_lowercase().as_str() {
            word @ ("stream" | "service") => {
                let is_service = word == "service";
                if kind.is_some_and(|known| known != is_service) {
                    let other = if is_service { "stream" } else { "service" };
                    let text = format!("Detected {word} but already saw a {other}");
                    decoder.error(field, text);
                    continue;
                }
                if remote(decoder, field, word, &mut import).is_some() {
                    kind = Some(is_service);
                }
            }
            "prefix" => import.prefix = decoder.text(field)?,
            "to" => import.local = decoder.text(field)?,
            "share" => decoder.set_bool(field, &mut import.share),
            "allow_trace" => {
                trace = Some(field);
                decoder.set_bool(field, &mut import.allow_trace);
            }
            _ if field.referenced => {}
            _ => decoder.error(field, unknown_field(&field.key)),
        }
    }
    if kind? {
        import.kind = SharedKind::Service;
        import.prefix.clear();
        if let Some(field) = trace {
            decoder.error(field, "Detected allow_trace directive on a non-stream");
        }
    }
    Some(import)
}

/// The account and the subject there.
fn remote(
    decoder: &mut Decoder<'_>,
    entry: &Entry,
    word: &str,
    import: &mut ImportOptions,
) -> Option<()> {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        let mut kind = word.to_owned();
        kind[..1].make_ascii_uppercase();
        let text = format!("{kind} entry should be an account map, got {found}");
        decoder.error(entry, text);
        return None;
    };
    for field in map.in_file_order() {
        match field.key.to_ascii_lowercase().as_str() {
            "account" => import.account = decoder.text(field)?,
            "subject" => import.subject = decoder.text(field)?,
            _ if field.referenced => {}
            _ => decoder.error(field, unknown_field(&field.key)),
        }
    }
    if import.account.is_empty() || import.subject.is_empty() {
        decoder.error(entry, "Expect an account name and a subject");
        return None;
    }
    Some(())
}

/// Checks what accounts share against each other; imports need their exports.
pub(super) fn check(decoder: &mut Decoder<'_>, root: &Map, options: &Options) {
    let entry = root
        .iter()
        .find(|entry| entry.key.eq_ignore_ascii_case("accounts"));
    let Some(entry) = entry.filter(|_| decoder.errors.is_empty()) else {
        return;
    };
    let mut sharing = Sharing::new(&options.accounts, options.no_system_account);
    for text in sharing.add_all(&options.accounts) {
        decoder.error(entry, text);
    }
}

pub(super) fn message_trace(
    decoder: &mut Decoder<'_>,
    trace: &mut MessageTraceOptions,
    entry: &Entry,
) {
    match &entry.value {
        Value::Text(_) => trace_destination(decoder, trace, entry),
        Value::Map(map) => {
            for field in map.in_file_order() {
                match field.key.to_ascii_lowercase().as_str() {
                    "dest" => trace_destination(decoder, trace, field),
                    "sampling" => trace_sampling(decoder, trace, field),
                    _ if field.referenced => {}
                    _ => {
                        let (key, top) = (&field.key, &entry.key);
                        let text = format!(
                            "Unknown field {key:?} parsing account message trace map/struct {top:?}"
                        );
                        decoder.error(field, text);
                    }
                }
            }
        }
        other => {
            let (key, found) = (&entry.key, other.type_name());
            let text = format!(
                "Expected account message trace {key:?} to be a string or a map/struct, got {found}"
            );
            decoder.error(entry, text);
        }
    }
    if trace.destination.is_empty() && trace.sampling > 0 {
        trace.sampling = 0;
        let reason = "Trace destination sampling ignored since no destination was set";
        decoder.warning(entry, reason);
    } else if !trace.destination.is_empty() && trace.sampling == 0 {
        trace.sampling = 100;
    }
}

fn trace_destination(decoder: &mut Decoder<'_>, trace: &mut MessageTraceOptions, entry: &Entry) {
    let Some(subject) = entry.value.as_text() else {
        let (key, found) = (&entry.key, entry.value.type_name());
        decoder.error(
            entry,
            format!("Field {key:?} should be a string, got {found}"),
        );
        return;
    };
    if is_valid_literal(subject.as_bytes()) {
        subject.clone_into(&mut trace.destination);
    } else {
        decoder.error(entry, format!("Trace destination {subject:?} is not valid"));
    }
}

fn trace_sampling(decoder: &mut Decoder<'_>, trace: &mut MessageTraceOptions, entry: &Entry) {
    let sampling = match &entry.value {
        Value::Integer(sampling) => *sampling,
        Value::Text(text) => match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(sampling) => sampling,
            Err(_) => {
                let text = format!("Invalid trace destination sampling value {text:?}");
                decoder.error(entry, text);
                return;
            }
        },
        other => {
            let found = other.type_name();
            let text = format!(
                "Trace destination sampling field \"sampling\" should be an integer or a \
                 percentage, got {found}"
            );
            decoder.error(entry, text);
            return;
        }
    };
    match u8::try_from(sampling) {
        Ok(valid) if (1..=WHOLE).contains(&sampling) => trace.sampling = valid,
        _ => {
            let text = format!(
                "Ttrace destination sampling value {sampling} is invalid, needs to be [1..100]"
            );
            decoder.error(entry, text);
        }
    }
}
