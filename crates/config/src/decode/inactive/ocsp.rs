//! `ocsp` (stapling) and `ocsp_cache`.

use super::super::Decoder;
use super::parts::{integer, switch, text};
use crate::language::{Entry, Value};
use crate::options::Options;

const MODES: &[&str] = &["auto", "always", "must", "never"];
const CACHE_TYPES: &[&str] = &["none", "local"];

pub(in super::super) fn stapling(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let mut is_on = true;
    match &entry.value {
        Value::Bool(value) => is_on = *value,
        Value::Map(map) => {
            for item in map.in_file_order() {
                match item.key.to_ascii_lowercase().as_str() {
                    "mode" => {
                        let Some(mode) = decoder.text(item) else {
                            continue;
                        };
                        let mode = mode.to_ascii_lowercase();
                        is_on = mode != "never";
                        if !MODES.contains(&mode.as_str()) {
                            let text = "error parsing ocsp config: unsupported ocsp mode string";
                            decoder.error(item, text);
                        }
                    }
                    "url" => text(decoder, &mut (), item),
                    // The reference fails on every list here.
                    "urls" => {
                        decoder.texts(item);
                    }
                    _ if item.referenced => {}
                    _ => {
                        let text = "error parsing ocsp config: unsupported field string";
                        decoder.error(item, text);
                    }
                }
            }
        }
        other => {
            let found = other.type_name();
            let text = format!("error parsing ocsp config: unsupported type {found}");
            decoder.error(entry, text);
        }
    }
    if is_on {
        options.inactive.note("ocsp");
    }
}

pub(in super::super) fn cache(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let mut is_on = true;
    match &entry.value {
        Value::Bool(value) => is_on = *value,
        Value::Map(map) => {
            for item in map.in_file_order() {
                match item.key.to_ascii_lowercase().as_str() {
                    "type" => {
                        let Some(kind) = decoder.text(item) else {
                            continue;
                        };
                        is_on = !kind.eq_ignore_ascii_case("none");
                        if !CACHE_TYPES.contains(&kind.to_ascii_lowercase().as_str()) {
                            let text = "error parsing OCSP peer cache config, unknown type";
                            decoder.error(item, format!("{text} [{kind}]"));
                        }
                    }
                    "local_store" => text(decoder, &mut (), item),
                    "preserve_revoked" => switch(decoder, &mut (), item),
                    "save_interval" => match &item.value {
                        Value::Text(_) => {
                            decoder.duration(item);
                        }
                        _ => integer(decoder, &mut (), item),
                    },
                    _ if item.referenced => {}
                    key => {
                        let text = "error parsing OCSP peer cache config, unknown field";
                        decoder.error(item, format!("{text} [{key:?}]"));
                    }
                }
            }
        }
        other => {
            let found = other.type_name();
            let text = format!("error parsing OCSP peer cache config: unsupported type {found}");
            decoder.error(entry, text);
        }
    }
    if is_on {
        options.inactive.note("ocsp_cache");
    }
}
