//! The keys of the top level.

use std::collections::BTreeMap;

use super::unsupported::accept;
use super::{
    Decoder, Field, accounts, authorization, field, inactive, jetstream, mappings, monitoring,
    operator, sharing, tls, unknown_field, websocket,
};
use crate::language::{Entry, Map, Value};
use crate::nkey::PublicKey;
use crate::options::Options;

const MINIMUM_LAME_DUCK_NS: u64 = 30_000_000_000;
const MAX_SUBSCRIPTION_TOKENS: i64 = 255;

/// Fills options from the top level of a configuration.
pub(super) fn decode(decoder: &mut Decoder<'_>, root: &Map, options: &mut Options) {
    let table: Vec<&Field<Options>> = [
        LISTENER, LIMITS, LOGGING, MONITORING, SERVER, SECURITY, OPERATOR, BLOCKS, INACTIVE,
    ]
    .into_iter()
    .flatten()
    .collect();
    decoder.fields(root, options, &table, unknown_field);
    accounts::check_users(decoder, root, options);
    sharing::check(decoder, root, options);
}

const LISTENER: &[Field<Options>] = &[
    field(&["listen"], |d, o, e| {
        d.listen(e, &mut o.client.host, &mut o.client.port)
    }),
    field(&["host", "net"], |d, o, e| {
        if let Some(host) = d.text(e) {
            o.client.host = host;
        }
    }),
    field(&["port"], |d, o, e| d.set_integer(e, &mut o.client.port)),
    field(&["client_advertise"], |d, o, e| {
        d.set_text(e, &mut o.client.advertise)
    }),
    field(&["proxies"], proxies),
    field(&["proxy_protocol"], |d, o, e| {
        d.set_bool(e, &mut o.client.proxy_protocol)
    }),
    field(&["no_header_support"], |d, o, e| {
        d.set_bool(e, &mut o.client.no_header_support)
    }),
    field(&["disable_sublist_cache", "no_sublist_cache"], |d, o, e| {
        d.set_bool(e, &mut o.client.disable_match_cache);
    }),
    field(&["no_fast_producer_stall"], |d, o, e| {
        d.set_bool(e, &mut o.client.no_fast_producer_stall);
    }),
];

const LIMITS: &[Field<Options>] = &[
    field(&["max_control_line"], |d, o, e| {
        d.set_size32(e, &mut o.client.max_control_line)
    }),
    field(&["max_payload"], |d, o, e| {
        d.set_size32(e, &mut o.client.max_payload)
    }),
    field(&["max_pending"], |d, o, e| {
        d.set_integer(e, &mut o.client.max_pending)
    }),
    field(&["max_connections", "max_conn"], |d, o, e| {
        d.set_integer(e, &mut o.client.max_connections);
    }),
    field(&["max_subscriptions", "max_subs"], max_subscriptions),
    field(
        &["max_subscription_tokens", "max_sub_tokens"],
        max_subscription_tokens,
    ),
    field(&["max_closed_clients"], |d, o, e| {
        d.set_integer(e, &mut o.client.max_closed_clients)
    }),
    field(&["ping_interval"], |d, o, e| {
        d.set_duration_or_seconds(e, &mut o.client.ping_interval_ns);
    }),
    field(&["ping_max"], |d, o, e| {
        d.set_integer(e, &mut o.client.ping_max)
    }),
    field(&["write_deadline"], |d, o, e| {
        d.set_duration_or_seconds(e, &mut o.client.write_deadline_ns);
    }),
    field(&["write_timeout"], |d, o, e| {
        if let Some(policy) = d.write_timeout(e) {
            o.client.write_timeout = policy;
        }
    }),
    field(&["lame_duck_duration"], lame_duck_duration),
    field(&["lame_duck_grace_period"], lame_duck_grace_period),
];

const LOGGING: &[Field<Options>] = &[
    field(&["debug"], |d, o, e| d.set_bool(e, &mut o.log.debug)),
    field(&["trace"], |d, o, e| d.set_bool(e, &mut o.log.trace)),
    field(&["trace_verbose"], |d, o, e| {
        d.set_bool(e, &mut o.log.trace_verbose);
        o.log.trace |= o.log.trace_verbose;
    }),
    field(&["trace_headers"], |d, o, e| {
        d.set_bool(e, &mut o.log.trace_headers);
        o.log.trace |= o.log.trace_headers;
    }),
    field(&["logtime"], |d, o, e| d.set_bool(e, &mut o.log.time)),
    field(&["logtime_utc"], |d, o, e| {
        d.set_bool(e, &mut o.log.time_utc)
    }),
    field(&["log_file", "logfile"], |d, o, e| {
        d.set_text(e, &mut o.log.file)
    }),
    field(&["log_size_limit", "logfile_size_limit"], |d, o, e| {
        d.set_at_least_zero(e, &mut o.log.file_size_limit);
    }),
    field(&["log_max_num", "logfile_max_num"], |d, o, e| {
        d.set_integer(e, &mut o.log.file_keep)
    }),
    field(&["syslog"], |d, o, e| d.set_bool(e, &mut o.log.syslog)),
    field(&["remote_syslog"], |d, o, e| {
        if let Some(place) = d.text(e) {
            o.log.remote_syslog = place;
        }
    }),
    field(&["max_traced_msg_len"], |d, o, e| {
        d.set_at_least_zero(e, &mut o.log.max_traced_message_length);
    }),
    field(&["connect_error_reports"], |d, o, e| {
        d.set_integer(e, &mut o.log.connect_error_reports);
    }),
    field(&["reconnect_error_reports"], |d, o, e| {
        d.set_integer(e, &mut o.log.reconnect_error_reports);
    }),
    field(&["pid_file", "pidfile"], |d, o, e| {
        d.set_text(e, &mut o.pid_file)
    }),
    field(&["ports_file_dir"], |d, o, e| {
        d.set_text(e, &mut o.ports_file_dir)
    }),
];

const MONITORING: &[Field<Options>] = &[
    field(&["http"], |d, o, e| {
        d.listen(e, &mut o.monitor.host, &mut o.monitor.http_port)
    }),
    field(&["http_port", "monitor_port"], |d, o, e| {
        d.set_integer(e, &mut o.monitor.http_port)
    }),
    field(&["https"], |d, o, e| {
        d.listen(e, &mut o.monitor.host, &mut o.monitor.https_port)
    }),
    field(&["https_port"], |d, o, e| {
        d.set_integer(e, &mut o.monitor.https_port)
    }),
    field(&["monitoring"], |d, o, e| {
        monitoring::decode(d, e, &mut o.monitor)
    }),
    field(&["http_base_path"], |d, o, e| {
        if let Some(path) = d.text(e) {
            o.monitor.base_path = path;
        }
    }),
];

const SERVER: &[Field<Options>] = &[
    field(&["server_name"], server_name),
    field(&["server_tags"], server_tags),
    field(&["server_metadata"], |d, o, e| match &e.value {
        Value::Map(_) => d.text_map(e, &mut o.server_metadata),
        other => {
            let found = other.type_name();
            d.error(
                e,
                format!("error parsing metadata: unsupported type {found}"),
            );
        }
    }),
    field(&["feature_flags"], feature_flags),
];

const SECURITY: &[Field<Options>] = &[
    field(&["tls"], |d, o, e| o.tls = tls::decode(d, e)),
    field(&["allow_non_tls"], |d, o, e| {
        d.set_bool(e, &mut o.allow_non_tls)
    }),
    field(&["authorization"], |d, o, e| {
        authorization::decode(d, e, &mut o.authorization)
    }),
    field(&["accounts"], |d, o, e| {
        accounts::decode(d, e, &mut o.accounts)
    }),
    field(&["mappings", "maps"], |d, o, e| {
        mappings::decode(d, &mut o.mappings, e)
    }),
    field(&["no_auth_user"], |d, o, e| {
        d.set_text(e, &mut o.no_auth_user)
    }),
    field(&["system_account", "system"], |d, o, e| {
        d.set_text(e, &mut o.system_account)
    }),
    field(
        &["no_system_account", "no_system", "no_sys_acc"],
        |d, o, e| {
            d.set_bool(e, &mut o.no_system_account);
        },
    ),
];

const OPERATOR: &[Field<Options>] = &[
    field(
        &[
            "operator",
            "operators",
            "root",
            "roots",
            "root_operator",
            "root_operators",
        ],
        |d, o, e| operator::tokens(d, &mut o.operator, e),
    ),
    field(&["trusted_keys", "trusted"], |d, o, e| {
        operator::trusted_keys(d, &mut o.operator, e);
    }),
    field(
        &["resolver", "account_resolver", "accounts_resolver"],
        |d, o, e| {
            operator::resolver(d, &mut o.operator, e);
        },
    ),
    field(&["resolver_preload"], |d, o, e| {
        operator::preload(d, &mut o.operator, e);
    }),
    field(&["resolver_pinned_accounts"], |d, o, e| {
        operator::pinned_accounts(d, &mut o.operator, e);
    }),
    field(&["resolver_tls"], |d, o, e| {
        o.operator.resolver_tls = tls::decode(d, e)
    }),
    field(&["default_sentinel"], |d, o, e| {
        d.set_text(e, &mut o.operator.default_sentinel);
    }),
];

const BLOCKS: &[Field<Options>] = &[
    field(&["websocket", "ws"], |d, o, e| {
        websocket::decode(d, e, &mut o.websocket)
    }),
    field(&["jetstream"], |d, o, e| {
        jetstream::decode(d, e, &mut o.jetstream)
    }),
    field(&["store_dir", "storedir"], |d, o, e| {
        jetstream::store_dir(d, &mut o.jetstream, e)
    }),
    field(&["default_js_domain"], |d, o, e| {
        d.text_map(e, &mut o.jetstream.default_domain)
    }),
    // Profiling ports have no counterpart here; the rate alone changes nothing.
    field(&["prof_block_rate"], accept),
];

/// Checked, and reported as not active.
const INACTIVE: &[Field<Options>] = &[
    field(&["cluster"], inactive::cluster),
    field(&["gateway"], inactive::gateway),
    field(&["leafnodes", "leaf"], inactive::leafnodes),
    field(&["mqtt"], inactive::mqtt),
    field(&["prof_port"], inactive::profile_port),
    field(&["ocsp"], inactive::ocsp),
    field(&["ocsp_cache"], inactive::ocsp_cache),
];

/// Keys of proxies that may vouch for clients.
fn proxies(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        let text = format!("expected proxies to be a map/struct, got {found}");
        return decoder.error(entry, text);
    };
    let table: Vec<&Field<Vec<String>>> = PROXIES.iter().collect();
    decoder.fields(
        map,
        &mut options.client.trusted_proxies,
        &table,
        unknown_field,
    );
}

const PROXIES: &[Field<Vec<String>>] = &[field(&["trusted"], |d, keys, e| {
    let Value::Array(elements) = &e.value else {
        let found = e.value.type_name();
        let text = format!("expected proxies' trusted field to be an array, got {found}");
        return d.error(e, text);
    };
    let table: Vec<&Field<Vec<String>>> = PROXY.iter().collect();
    for element in elements {
        if let Some(map) = d.map(element) {
            d.fields(map, keys, &table, unknown_field);
        }
    }
})];

const PROXY: &[Field<Vec<String>>] = &[field(&["key", "public_key"], |d, keys, e| {
    if let Some(key) = d.text(e) {
        if PublicKey::decode(&key).is_some() {
            keys.push(key);
        } else {
            d.error(e, format!("invalid proxy key {key:?}"));
        }
    }
})];

fn max_subscriptions(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    if let Some(value) = decoder.integer(entry) {
        // Zero and negative both mean no limit.
        options.client.max_subscriptions = u64::try_from(value).unwrap_or(0);
    }
}

fn max_subscription_tokens(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Some(value) = decoder.integer(entry) else {
        return;
    };
    let name = entry.key.to_ascii_lowercase();
    if value > MAX_SUBSCRIPTION_TOKENS {
        decoder.error(entry, format!("{name} value is too big"));
    } else if value <= 0 {
        decoder.error(entry, format!("{name} value can not be negative"));
    } else {
        options.client.max_subscription_tokens = u8::try_from(value).unwrap_or(u8::MAX);
    }
}

fn lame_duck_duration(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Some(duration) = decoder.duration(entry) else {
        return;
    };
    match u64::try_from(duration) {
        Ok(duration_ns) if duration_ns >= MINIMUM_LAME_DUCK_NS => {
            options.lame_duck.duration_ns = duration_ns;
        }
        _ => {
            let text = millrace_clock::go_duration::format(duration);
            let text = format!("invalid lame_duck_duration of {text}, minimum is 30 seconds");
            decoder.error(entry, text);
        }
    }
}

fn lame_duck_grace_period(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Some(duration) = decoder.duration(entry) else {
        return;
    };
    match u64::try_from(duration) {
        Ok(duration_ns) => options.lame_duck.grace_period_ns = duration_ns,
        Err(_) => {
            decoder.error(
                entry,
                "invalid lame_duck_grace_period, needs to be positive",
            );
        }
    }
}

fn server_name(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Some(name) = decoder.text(entry) else {
        return;
    };
    if name.contains(' ') {
        decoder.error(entry, "server name cannot contain spaces");
    } else {
        options.server_name = Some(name).filter(|name| !name.is_empty());
    }
}

fn server_tags(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let elements = match &entry.value {
        Value::Text(_) | Value::Array(_) => decoder.texts(entry),
        other => {
            let found = other.type_name();
            decoder.error(
                entry,
                format!("error parsing tags: unsupported type {found}"),
            );
            return;
        }
    };
    for tag in elements {
        let tag = tag.trim().to_lowercase();
        if !tag.is_empty() && !options.server_tags.contains(&tag) {
            options.server_tags.push(tag);
        }
    }
}

fn feature_flags(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    for flag in map.in_file_order() {
        match &flag.value {
            Value::Bool(value) => {
                options.feature_flags.insert(flag.key.clone(), *value);
            }
            other => {
                let found = other.type_name();
                let name = &flag.key;
                let text =
                    format!("error parsing feature flag {name:?}: expected bool, got {found}");
                decoder.error(flag, text);
            }
        }
    }
}

impl Decoder<'_> {
    /// A map from text to text.
    fn text_map(&mut self, entry: &Entry, target: &mut BTreeMap<String, String>) {
        let Some(map) = self.map(entry) else { return };
        for item in map.in_file_order() {
            if let Some(value) = self.text(item) {
                target.insert(item.key.clone(), value);
            }
        }
    }
}
