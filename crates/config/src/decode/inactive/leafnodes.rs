//! The `leafnodes` block and its remotes.

use millrace_subject::is_valid_subject;

use super::super::{Decoder, Field, field, unknown_field};
use super::parts::{
    compression, duration, integer, link_tls, listen, switch, text, url, urls, write_timeout,
};
use crate::language::{Entry, Value};
use crate::nkey::{KeyKind, PublicKey};
use crate::options::{InactiveOptions, Options};

/// Oldest version of the other side that may be asked for.
const OLDEST_VERSION: [u64; 3] = [2, 8, 0];

pub(in super::super) fn leafnodes(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        let text = format!("Expected map to define a leafnode, got {found}");
        return decoder.error(entry, text);
    };
    if !map.is_empty() {
        options.inactive.note("leafnodes");
    }
    let table: Vec<&Field<InactiveOptions>> = FIELDS.iter().collect();
    decoder.fields(map, &mut options.inactive, &table, unknown_field);
}

const FIELDS: &[Field<InactiveOptions>] = &[
    field(&["listen"], listen),
    field(&["host", "net"], text),
    field(&["port"], integer),
    field(&["authorization"], |d, _, e| {
        if let Some(map) = d.map(e) {
            let table: Vec<&Field<()>> = AUTHORIZATION.iter().collect();
            d.fields(map, &mut (), &table, unknown_field);
        }
    }),
    field(&["remotes"], remotes),
    field(
        &["reconnect", "reconnect_delay", "reconnect_interval"],
        duration,
    ),
    field(&["dial_timeout"], duration),
    field(&["tls"], link_tls),
    field(&["leafnode_advertise", "advertise"], text),
    field(&["no_advertise"], switch),
    field(&["min_version", "minimum_version"], minimum_version),
    field(&["compression"], |d, o, e| {
        compression(d, &mut o.compression_modes, e)
    }),
    field(&["isolate_leafnode_interest", "isolate"], switch),
    field(&["write_deadline"], duration),
    field(&["write_timeout"], write_timeout),
];

const AUTHORIZATION: &[Field<()>] = &[
    field(&["user", "username"], text),
    field(&["pass", "password"], text),
    field(&["nkey"], |d, (), e| {
        if let Some(nkey) = d.text(e)
            && !PublicKey::is_kind(&nkey, KeyKind::User)
        {
            d.error(e, "Not a valid public nkey for leafnode authorization");
        }
    }),
    field(&["timeout"], |d, (), e| {
        d.timeout_ns(e, "authorization");
    }),
    field(&["users"], |d, (), e| {
        let Value::Array(elements) = &e.value else {
            let found = e.value.shown();
            let text = format!("Expected users field to be an array, got {found}");
            return d.error(e, text);
        };
        let table: Vec<&Field<()>> = USER.iter().collect();
        for element in elements {
            if let Some(map) = d.map(element) {
                d.fields(map, &mut (), &table, unknown_field);
            }
        }
    }),
    field(&["account"], text),
    field(&["proxy_required"], switch),
];

const USER: &[Field<()>] = &[
    field(&["user", "username"], text),
    field(&["pass", "password"], text),
    field(&["account"], text),
    field(&["proxy_required"], switch),
];

fn minimum_version(decoder: &mut Decoder<'_>, _: &mut InactiveOptions, entry: &Entry) {
    let Some(version) = decoder.text(entry) else {
        return;
    };
    let core = version.trim_start_matches('v');
    let core = core.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<u64> = core
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect();
    match <[u64; 3]>::try_from(numbers) {
        Ok(version) if version >= OLDEST_VERSION => {}
        Ok(_) => decoder.error(entry, "the minimum version should be at least 2.8.0"),
        Err(_) => decoder.error(entry, "invalid leafnode's minimum version: invalid semver"),
    }
}

fn remotes(decoder: &mut Decoder<'_>, options: &mut InactiveOptions, entry: &Entry) {
    let Value::Array(elements) = &entry.value else {
        let found = entry.value.type_name();
        let text = format!("Expected remotes field to be an array, got {found}");
        return decoder.error(entry, text);
    };
    let table: Vec<&Field<InactiveOptions>> = REMOTE.iter().collect();
    for element in elements {
        match &element.value {
            Value::Map(map) => decoder.fields(map, options, &table, unknown_field),
            other => {
                let found = other.shown();
                let text =
                    format!("Expected remote leafnode entry to be a map/struct, got {found}");
                decoder.error(element, text);
            }
        }
    }
}

const REMOTE: &[Field<InactiveOptions>] = &[
    field(&["no_randomize", "dont_randomize"], switch),
    field(&["url"], |d, _, e| url(d, e, "leafnode")),
    field(&["urls"], |d, _, e| urls(d, e, "leafnode")),
    field(&["account", "local"], |d, o, e| {
        let account = d.text(e).filter(|account| !account.is_empty());
        o.remote_accounts.extend(account);
    }),
    field(&["creds", "credentials"], text),
    field(&["nkey", "seed"], |d, _, e| {
        if let Some(seed) = d.text(e)
            && !PublicKey::is_seed(&seed)
        {
            let text = format!("Remote leafnode nkey is not a valid seed: {seed:?}");
            d.error(e, text);
        }
    }),
    field(&["tls"], link_tls),
    field(&["hub"], switch),
    field(&["deny_imports", "deny_import"], subjects),
    field(&["deny_exports", "deny_export"], subjects),
    field(
        &[
            "ws_compress",
            "ws_compression",
            "websocket_compress",
            "websocket_compression",
        ],
        switch,
    ),
    field(&["ws_no_masking", "websocket_no_masking"], switch),
    field(
        &["jetstream_cluster_migrate", "js_cluster_migrate"],
        migration,
    ),
    field(&["isolate_leafnode_interest", "isolate"], switch),
    field(&["request_isolation"], switch),
    field(&["compression"], |d, o, e| {
        compression(d, &mut o.compression_modes, e)
    }),
    field(&["first_info_timeout"], duration),
    field(&["dial_timeout"], duration),
    field(&["disabled"], switch),
    field(&["ignore_discovered_servers"], switch),
    field(&["proxy"], |d, _, e| {
        if let Some(map) = d.map(e) {
            let table: Vec<&Field<()>> = PROXY.iter().collect();
            d.fields(map, &mut (), &table, unknown_field);
        }
    }),
];

const PROXY: &[Field<()>] = &[
    field(&["url"], text),
    field(&["username"], text),
    field(&["password"], text),
    field(&["timeout"], duration),
];

fn subjects(decoder: &mut Decoder<'_>, _: &mut InactiveOptions, entry: &Entry) {
    for subject in decoder.texts(entry) {
        if !is_valid_subject(subject.as_bytes()) {
            let text = format!("subject {subject:?} is not a valid subject");
            decoder.error(entry, text);
        }
    }
}

/// A truth value, or a map whose only known key is a delay; the reference asks nothing of others.
fn migration(decoder: &mut Decoder<'_>, _: &mut InactiveOptions, entry: &Entry) {
    match &entry.value {
        Value::Bool(_) => {}
        Value::Map(map) => {
            if let Some(delay) = map.get("leader_migrate_delay") {
                decoder.duration_or_seconds(delay);
            }
        }
        other => {
            let found = other.type_name();
            let text =
                format!("Expected boolean or map for jetstream_cluster_migrate, got {found}");
            decoder.error(entry, text);
        }
    }
}
