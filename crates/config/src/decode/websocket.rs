//! The `websocket` block.

use super::{Decoder, Field, field, tls, unknown_field};
use crate::language::{Entry, Value};
use crate::options::WebsocketOptions;

/// Fields of the answer that are the protocol's own.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "connection",
    "upgrade",
    "nats-no-masking",
];
const RESERVED_PREFIX: &str = "sec-websocket-";

/// Reads the block.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry, options: &mut WebsocketOptions) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<WebsocketOptions>> = FIELDS.iter().collect();
    decoder.fields(map, options, &table, unknown_field);
}

const FIELDS: &[Field<WebsocketOptions>] = &[
    field(&["listen"], |d, o, e| d.listen(e, &mut o.host, &mut o.port)),
    field(&["host", "net"], |d, o, e| {
        if let Some(host) = d.text(e) {
            o.host = host;
        }
    }),
    field(&["port"], |d, o, e| d.set_integer(e, &mut o.port)),
    field(&["advertise"], |d, o, e| d.set_text(e, &mut o.advertise)),
    field(&["no_tls"], |d, o, e| d.set_bool(e, &mut o.no_tls)),
    field(&["tls"], |d, o, e| o.tls = tls::decode(d, e)),
    field(&["same_origin"], |d, o, e| {
        d.set_bool(e, &mut o.same_origin)
    }),
    field(
        &[
            "allowed_origins",
            "allowed_origin",
            "allow_origins",
            "allow_origin",
            "origins",
            "origin",
        ],
        |d, o, e| o.allowed_origins = d.texts(e),
    ),
    field(&["compress", "compression"], |d, o, e| {
        d.set_bool(e, &mut o.compression)
    }),
    field(&["handshake_timeout"], |d, o, e| {
        d.set_duration_or_seconds(e, &mut o.handshake_timeout_ns);
    }),
    field(&["ping_interval"], |d, o, e| {
        let mut interval_ns = 0;
        d.set_duration_or_seconds(e, &mut interval_ns);
        o.ping_interval_ns = Some(interval_ns);
    }),
    field(&["no_auth_user"], |d, o, e| {
        d.set_text(e, &mut o.no_auth_user)
    }),
    field(&["authorization", "authentication"], authorization),
    field(&["jwt_cookie"], |d, o, e| d.set_text(e, &mut o.jwt_cookie)),
    field(&["user_cookie"], |d, o, e| {
        d.set_text(e, &mut o.user_cookie)
    }),
    field(&["pass_cookie"], |d, o, e| {
        d.set_text(e, &mut o.pass_cookie)
    }),
    field(&["token_cookie"], |d, o, e| {
        d.set_text(e, &mut o.token_cookie)
    }),
    field(&["headers"], headers),
];

const AUTHORIZATION: &[Field<WebsocketOptions>] = &[
    field(&["user", "username"], |d, o, e| d.set_text(e, &mut o.user)),
    field(&["pass", "password"], |d, o, e| {
        d.set_text(e, &mut o.password)
    }),
    field(&["token"], |d, o, e| d.set_text(e, &mut o.token)),
    field(&["timeout"], |d, o, e| {
        if let Some(timeout_ns) = d.timeout_ns(e, "authorization") {
            o.authorization_timeout_ns = Some(timeout_ns);
        }
    }),
];

fn authorization(decoder: &mut Decoder<'_>, options: &mut WebsocketOptions, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<WebsocketOptions>> = AUTHORIZATION.iter().collect();
    decoder.fields(map, options, &table, unknown_field);
    if options.token.is_some() && (options.user.is_some() || options.password.is_some()) {
        decoder.error(entry, "Cannot have a user/pass and token");
    }
}

fn headers(decoder: &mut Decoder<'_>, options: &mut WebsocketOptions, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    for header in map.in_file_order() {
        let Value::Text(value) = &header.value else {
            let found = header.value.type_name();
            let text = format!("error parsing headers: unsupported type {found}");
            decoder.error(header, text);
            continue;
        };
        let name = header.key.to_ascii_lowercase();
        if RESERVED_HEADERS.contains(&name.as_str()) || name.starts_with(RESERVED_PREFIX) {
            let text = format!("websocket: invalid header {:?} not allowed", header.key);
            decoder.error(header, text);
        } else if !is_header(&header.key, value) {
            let text = format!("websocket: invalid header {:?}", header.key);
            decoder.error(header, text);
        } else {
            options.headers.insert(header.key.clone(), value.clone());
        }
    }
}

/// Whether a line made of these is one line of HTTP.
fn is_header(name: &str, value: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty()
        && name.bytes().all(is_token)
        && value
            .bytes()
            .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
