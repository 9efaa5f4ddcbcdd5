//! The `tls` block.

use millrace_clock::go_duration;

use super::unsupported::unsupported;
use super::{Decoder, Field, field};
use crate::language::{Entry, Value};
use crate::options::{CertificatePair, HandshakeMode, TlsOptions, TlsVersion};

/// How long `handshake_first: auto` waits for a handshake.
const AUTO_FALLBACK_NS: u64 = 50_000_000;
const PIN_LENGTH: usize = 64;

/// Suites and curves this server can offer. Suites are those of TLS 1.2; 1.3 has no choice.
const CIPHER_SUITES: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];
const CURVES: &[&str] = &[
    "CurveP256",
    "CurveP384",
    "X25519",
    "X25519MLKEM768",
    "SecP256r1MLKEM768",
];
/// What the reference can offer besides.
const CURVES_ELSEWHERE: &[&str] = &["CurveP521", "SecP384r1MLKEM1024"];
const SUITES_ELSEWHERE: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];
/// What the reference offers where `allow_insecure_cipher_suites` is set.
const INSECURE_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// A block under construction: the pair named by `cert_file` and `key_file` comes in two keys.
#[derive(Default)]
struct Draft {
    options: TlsOptions,
    pair: CertificatePair,
    /// The block is one of links to servers whose addresses are known.
    may_check_known_urls: bool,
}

/// Reads a `tls` block; `None` if it is wrong.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<TlsOptions> {
    decode_draft(decoder, entry, Draft::default())
}

/// Reads the `tls` block of a cluster or gateway.
pub(super) fn decode_for_known_urls(
    decoder: &mut Decoder<'_>,
    entry: &Entry,
) -> Option<TlsOptions> {
    let draft = Draft {
        may_check_known_urls: true,
        ..Draft::default()
    };
    decode_draft(decoder, entry, draft)
}

fn decode_draft(decoder: &mut Decoder<'_>, entry: &Entry, mut draft: Draft) -> Option<TlsOptions> {
    let map = decoder.map(entry)?;
    let table: Vec<&Field<Draft>> = FIELDS.iter().collect();
    decoder.fields(map, &mut draft, &table, |key| {
        format!("error parsing tls config, unknown field {key:?}")
    });
    let Draft {
        mut options, pair, ..
    } = draft;
    match (pair.cert_file.is_empty(), pair.key_file.is_empty()) {
        (false, false) if options.certificates.is_empty() => options.certificates.push(pair),
        (false, false) => {
            let text =
                "error parsing tls config, cannot combine 'cert_file' option with 'certs' option";
            decoder.error(entry, text);
        }
        (true, true) => {}
        (true, false) => decoder.error(entry, "missing 'cert_file' in TLS configuration"),
        (false, true) => decoder.error(entry, "missing 'key_file' in TLS configuration"),
    }
    Some(options)
}

const FIELDS: &[Field<Draft>] = &[
    field(&["cert_file"], |d, t, e| {
        set_path(d, &mut t.pair.cert_file, e)
    }),
    field(&["key_file"], |d, t, e| {
        set_path(d, &mut t.pair.key_file, e)
    }),
    field(&["ca_file"], |d, t, e| {
        d.set_text(e, &mut t.options.ca_file)
    }),
    field(&["certs", "certificates"], certificates),
    field(&["verify"], |d, t, e| d.set_bool(e, &mut t.options.verify)),
    field(&["verify_and_map"], |d, t, e| {
        d.set_bool(e, &mut t.options.verify_and_map);
        t.options.verify |= t.options.verify_and_map;
    }),
    field(&["timeout"], |d, t, e| {
        if let Some(timeout_ns) = d.timeout_ns(e, "tls") {
            t.options.timeout_ns = timeout_ns;
        }
    }),
    field(&["handshake_first", "first", "immediate"], handshake_first),
    field(&["connection_rate_limit"], |d, t, e| {
        d.set_integer(e, &mut t.options.connection_rate_limit);
    }),
    field(&["pinned_certs"], pinned_certs),
    field(&["cipher_suites"], |d, t, e| {
        t.options.cipher_suites = names(d, e, &SUITE_NAMES);
    }),
    field(&["curve_preferences"], |d, t, e| {
        t.options.curve_preferences = names(d, e, &CURVE_NAMES);
    }),
    field(&["min_version"], min_version),
    // Only says something about the other side of outgoing connections.
    field(&["insecure"], |d, _, e| d.set_bool(e, &mut false)),
    // Insecure suites are refused by name: there are none to allow.
    field(&["allow_insecure_cipher_suites"], |d, _, e| {
        d.set_bool(e, &mut false)
    }),
    field(&["verify_cert_and_check_known_urls"], |d, t, e| {
        let mut checks = false;
        d.set_bool(e, &mut checks);
        if checks && !t.may_check_known_urls {
            let text = "verify_cert_and_check_known_urls not supported in this context";
            d.error(e, text);
        }
    }),
    // Certificates of Windows' own store: an error on other systems, as in the reference.
    field(&["cert_store"], |d, _, e| {
        if let Some(store) = d.text(e) {
            let known = ["windowscurrentuser", "windowslocalmachine"];
            let text = if known.contains(&store.to_ascii_lowercase().as_str()) {
                "cert_store not compatible with current operating system"
            } else {
                "cert store type not implemented"
            };
            d.error(e, text);
        }
    }),
    field(&["cert_match_by"], |d, _, e| {
        if let Some(by) = d.text(e) {
            let known = ["subject", "issuer", "thumbprint"];
            if !known.contains(&by.to_ascii_lowercase().as_str()) {
                d.error(e, "cert match by type not implemented");
            }
        }
    }),
    field(&["cert_match"], |d, _, e| {
        d.text(e);
    }),
    field(&["ca_certs_match"], |d, _, e| {
        d.texts(e);
    }),
    field(&["cert_match_skip_invalid"], |d, _, e| {
        d.set_bool(e, &mut false)
    }),
    // Accepting it would let revoked certificates in.
    unsupported(&["ocsp_peer"]),
];

fn set_path(decoder: &mut Decoder<'_>, target: &mut String, entry: &Entry) {
    if let Some(path) = decoder.text(entry) {
        *target = path;
    }
}

/// A set that names are chosen from.
struct Names {
    /// How a wrong one is called.
    what: &'static str,
    known: &'static [&'static str],
    /// Right, but not to be had here.
    elsewhere: &'static [&'static str],
    insecure: &'static [&'static str],
}

const SUITE_NAMES: Names = Names {
    what: "cipher",
    known: CIPHER_SUITES,
    elsewhere: SUITES_ELSEWHERE,
    insecure: INSECURE_SUITES,
};
const CURVE_NAMES: Names = Names {
    what: "curve preference",
    known: CURVES,
    elsewhere: CURVES_ELSEWHERE,
    insecure: &[],
};

/// A list of names out of a known set, each with its own place in errors.
fn names(decoder: &mut Decoder<'_>, entry: &Entry, set: &Names) -> Vec<String> {
    if matches!(&entry.value, Value::Array(elements) if elements.is_empty()) {
        let key = entry.key.to_ascii_lowercase();
        let text = format!("error parsing tls config, '{key}' cannot be empty");
        decoder.error(entry, text);
        return Vec::new();
    }
    let elements = match &entry.value {
        Value::Array(elements) => elements.as_slice(),
        _ => std::slice::from_ref(entry),
    };
    let mut names = Vec::new();
    for element in elements {
        let Some(name) = decoder.text(element) else {
            continue;
        };
        let what = set.what;
        if set.elsewhere.contains(&name.as_str()) {
            let text = format!("{what} {name} is not to be had with this server: leave it out");
            decoder.error(element, text);
        } else if set.insecure.contains(&name.as_str()) {
            let text = format!("{what} {name} is insecure and not to be had: leave it out");
            decoder.error(element, text);
        } else if set.known.contains(&name.as_str()) {
            names.push(name);
        } else {
            decoder.error(element, format!("unrecognized {what} {name}"));
        }
    }
    names
}

fn certificates(decoder: &mut Decoder<'_>, draft: &mut Draft, entry: &Entry) {
    let Value::Array(elements) = &entry.value else {
        decoder.mismatch(entry, "[]interface {}");
        return;
    };
    let table: Vec<&Field<CertificatePair>> = PAIR.iter().collect();
    for element in elements {
        let Some(map) = decoder.map(element) else {
            continue;
        };
        let mut pair = CertificatePair::default();
        decoder.fields(map, &mut pair, &table, |key| {
            format!("error parsing tls certs config, unknown field {key:?}")
        });
        if pair.cert_file.is_empty() || pair.key_file.is_empty() {
            decoder.error(element, "error parsing certificates config: both 'cert_file' and 'key_file' options are required");
        } else {
            draft.options.certificates.push(pair);
        }
    }
}

const PAIR: &[Field<CertificatePair>] = &[
    field(&["cert_file"], |d, pair, e| {
        set_path(d, &mut pair.cert_file, e)
    }),
    field(&["key_file"], |d, pair, e| {
        set_path(d, &mut pair.key_file, e)
    }),
];

fn handshake_first(decoder: &mut Decoder<'_>, draft: &mut Draft, entry: &Entry) {
    let mode = match &entry.value {
        Value::Bool(true) => HandshakeMode::HandshakeFirst,
        Value::Bool(false) => HandshakeMode::InfoFirst,
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" => HandshakeMode::HandshakeFirst,
            "false" | "off" => HandshakeMode::InfoFirst,
            "auto" | "auto_fallback" => HandshakeMode::Fallback {
                delay_ns: AUTO_FALLBACK_NS,
            },
            _ => match go_duration::parse(text).map(u64::try_from) {
                Ok(Ok(delay_ns)) => HandshakeMode::Fallback { delay_ns },
                _ => {
                    decoder.error(
                        entry,
                        format!("field {:?}'s value {text:?} is invalid", entry.key),
                    );
                    return;
                }
            },
        },
        other => {
            let found = other.type_name();
            let text = format!(
                "field {:?} should be a boolean or a string, got {found}",
                entry.key
            );
            decoder.error(entry, text);
            return;
        }
    };
    draft.options.handshake = mode;
}

fn pinned_certs(decoder: &mut Decoder<'_>, draft: &mut Draft, entry: &Entry) {
    for pin in decoder.texts(entry) {
        let pin = pin.to_ascii_lowercase();
        if pin.len() == PIN_LENGTH && pin.bytes().all(|b| b.is_ascii_hexdigit()) {
            draft.options.pinned_certs.push(pin);
        } else {
            let text =
                format!("error parsing 'pinned_certs' value {pin} does not match sha256 in hex");
            decoder.error(entry, text);
        }
    }
}

fn min_version(decoder: &mut Decoder<'_>, draft: &mut Draft, entry: &Entry) {
    let Some(text) = decoder.text(entry) else {
        return;
    };
    draft.options.min_version = match text.as_str() {
        "1.2" => TlsVersion::V12,
        "1.3" => TlsVersion::V13,
        "1.0" | "1.1" => {
            let text = format!("error parsing tls config: unsupported TLS version: TLS {text}");
            decoder.error(entry, text);
            return;
        }
        _ => {
            let text = format!("error parsing tls config, unknown version {text:?}");
            decoder.error(entry, text);
            return;
        }
    };
}
