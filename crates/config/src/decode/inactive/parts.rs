//! What the blocks of server links have in common.

use super::super::{Decoder, Field, field, permissions, tls, unknown_field};
use crate::language::{Entry, Value};

/// Finds out whether a value has the right type, and forgets it.
pub(super) fn text<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.text(entry);
}

pub(super) fn switch<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.set_bool(entry, &mut false);
}

pub(super) fn integer<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.integer(entry);
}

pub(super) fn duration<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.duration_or_seconds(entry);
}

pub(super) fn listen<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.listen(entry, &mut String::new(), &mut 0);
}

pub(super) fn link_tls<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    tls::decode(decoder, entry);
}

/// TLS of links that may check the names of known servers.
pub(super) fn known_urls_tls<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    tls::decode_for_known_urls(decoder, entry);
}

pub(super) fn link_permissions<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    permissions::decode(decoder, entry);
}

pub(super) fn write_timeout<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    decoder.write_timeout(entry);
}

/// A mode, a truth value, or a map of mode and thresholds.
pub(super) fn compression(decoder: &mut Decoder<'_>, modes: &mut Vec<String>, entry: &Entry) {
    match &entry.value {
        Value::Text(mode) => modes.push(mode.clone()),
        Value::Bool(_) => {}
        Value::Map(map) => {
            let table: Vec<&Field<Vec<String>>> = COMPRESSION.iter().collect();
            decoder.fields(map, modes, &table, unknown_field);
        }
        other => {
            let found = other.type_name();
            let key = &entry.key;
            let text = format!("field {key:?} should be a boolean or a structure, got {found}");
            decoder.error(entry, text);
        }
    }
}

const COMPRESSION: &[Field<Vec<String>>] = &[
    field(&["mode"], |d, modes, e| modes.extend(d.text(e))),
    field(
        &["rtt_thresholds", "thresholds", "rtts", "rtt"],
        |d, _, e| {
            let Value::Array(elements) = &e.value else {
                return d.mismatch(e, "[]interface {}");
            };
            for element in elements {
                d.duration(element);
            }
        },
    ),
];

/// Addresses of servers; `what` names their kind.
pub(super) fn urls(decoder: &mut Decoder<'_>, entry: &Entry, what: &str) {
    let Value::Array(elements) = &entry.value else {
        return decoder.mismatch(entry, "[]interface {}");
    };
    for element in elements {
        url(decoder, element, what);
    }
}

pub(super) fn url(decoder: &mut Decoder<'_>, entry: &Entry, what: &str) {
    if let Some(text) = decoder.text(entry)
        && !is_url(text.trim())
    {
        decoder.error(entry, format!("error parsing {what} url [{text:?}]"));
    }
}

/// Whether Go's parser of URLs takes it, as far as mistakes go that people make.
pub(crate) fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return !text.contains(|c: char| c.is_control());
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if !is_scheme || rest.contains(|c: char| c.is_control()) {
        return false;
    }
    let Some(rest) = rest.strip_prefix("//") else {
        return true;
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    if host.contains(' ') {
        return false;
    }
    match host.strip_prefix('[') {
        Some(address) => address.contains(']'),
        None => match host.split_once(':') {
            Some((_, port)) => port.bytes().all(|b| b.is_ascii_digit() || b == b'-'),
            None => true,
        },
    }
}

/// The `authorization` of a cluster or gateway.
pub(super) struct LinkAuthorization {
    /// How errors call it.
    pub(super) what: &'static str,
    pub(super) has_users: bool,
    pub(super) has_token: bool,
    pub(super) has_permissions: bool,
}

impl LinkAuthorization {
    pub(super) const fn of(what: &'static str) -> Self {
        Self {
            what,
            has_users: false,
            has_token: false,
            has_permissions: false,
        }
    }

    pub(super) fn read(mut self, decoder: &mut Decoder<'_>, entry: &Entry) {
        let Some(map) = decoder.map(entry) else {
            return;
        };
        let table: Vec<&Field<Self>> = AUTHORIZATION.iter().collect();
        decoder.fields(map, &mut self, &table, unknown_field);
        let what = self.what;
        if self.has_users {
            let text = format!("{what} authorization does not allow multiple users");
            decoder.error(entry, text);
        } else if self.has_token {
            decoder.error(
                entry,
                format!("{what} authorization does not support tokens"),
            );
        } else if self.has_permissions && what == "Cluster" {
            let text = "setting \"permissions\" within cluster authorization block is deprecated";
            decoder.warning(entry, text);
        }
    }
}

const AUTHORIZATION: &[Field<LinkAuthorization>] = &[
    field(&["user", "username"], text),
    field(&["pass", "password"], text),
    field(&["token"], |d, a, e| {
        a.has_token = d.text(e).is_some_and(|token| !token.is_empty());
    }),
    field(&["timeout"], |d, _, e| {
        d.timeout_ns(e, "authorization");
    }),
    field(&["users"], |_, a, _| a.has_users = true),
    field(
        &["default_permissions", "default_permission", "permissions"],
        |d, a, e| {
            a.has_permissions = true;
            permissions::decode(d, e);
        },
    ),
    field(&["proxy_required"], switch),
];

/// `authorization` of listeners that judge their clients themselves.
pub(super) fn own_authorization<T>(decoder: &mut Decoder<'_>, _: &mut T, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<()>> = OWN_AUTHORIZATION.iter().collect();
    decoder.fields(map, &mut (), &table, unknown_field);
}

const OWN_AUTHORIZATION: &[Field<()>] = &[
    field(&["user", "username"], text),
    field(&["pass", "password"], text),
    field(&["token"], text),
    field(&["timeout"], |d, _, e| {
        d.timeout_ns(e, "authorization");
    }),
];

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn urls_with_the_mistakes_people_make_are_found() {
        for good in [
            "nats://a:1",
            "nats://u:p@[::1]:4",
            "a",
            "ws://b",
            "nats://h:-1",
            "x:y",
        ] {
            assert!(is_url(good), "{good}");
        }
        for bad in [":::", "://", "nats://a:x", "127.0.0.1:1", "nats://a b:1"] {
            assert!(!is_url(bad), "{bad}");
        }
    }
}
