//! Keys of operator mode. Tokens are taken as texts; whether they are genuine is checked by `auth`
//! before the server starts.

use super::{Decoder, Field, field};
use crate::language::{Entry, Value};
use crate::options::{FullResolver, OperatorOptions, Resolver};

const NO_RESOLVER: &str = "error parsing account resolver, should be MEM or  URL(\"url\") or a map \
                           containing dir and type state=[FULL|CACHE])";

/// The resolver block as it is written.
#[derive(Default)]
struct Block {
    kind: Option<String>,
    resolver: FullResolver,
    /// Keys that a cache does not accept, in the order they must be named.
    refused_by_cache: [bool; 3],
    has_ttl: bool,
}

const FIELDS: &[Field<Block>] = &[
    field(&["type"], |d, b, e| d.set_text(e, &mut b.kind)),
    field(&["dir"], |d, b, e| {
        if let Some(directory) = d.text(e) {
            b.resolver.directory = directory;
        }
    }),
    field(&["limit"], |d, b, e| {
        d.set_at_least_zero(e, &mut b.resolver.limit)
    }),
    field(&["allow_delete"], |d, b, e| {
        b.refused_by_cache[0] = true;
        d.set_bool(e, &mut b.resolver.allow_delete);
    }),
    field(&["hard_delete"], |d, b, e| {
        b.refused_by_cache[1] = true;
        d.set_bool(e, &mut b.resolver.hard_delete);
    }),
    // How often and how long servers ask each other; there is no other server to ask.
    field(&["interval"], |d, b, e| {
        b.refused_by_cache[2] = true;
        d.duration(e);
    }),
    field(&["timeout"], |d, _, e| {
        d.duration(e);
    }),
    field(&["ttl"], |d, b, e| {
        b.has_ttl = true;
        d.duration(e);
    }),
];

fn ignored(key: &str) -> String {
    format!("unknown field {key:?} of the resolver")
}

impl Block {
    fn apply(self, decoder: &mut Decoder<'_>, options: &mut OperatorOptions, entry: &Entry) {
        let kind = self.kind.unwrap_or_default().to_ascii_uppercase();
        if self.resolver.directory.is_empty() {
            decoder.error(entry, "dir has no value and needs to point to a directory");
        }
        match kind.as_str() {
            "FULL" if self.has_ttl => decoder.error(entry, "FULL does not accept ttl"),
            "FULL" => options.resolver = Resolver::Full(self.resolver),
            "CACHE" => {
                let names = ["allow_delete", "hard_delete", "sync"];
                let mut refused = names.iter().zip(self.refused_by_cache);
                match refused.find(|(_, given)| *given) {
                    Some((name, _)) => {
                        decoder.error(entry, format!("CACHE does not accept {name}"));
                    }
                    None => decoder.error(
                        entry,
                        "the CACHE resolver is not supported yet by this version",
                    ),
                }
            }
            _ => decoder.error(entry, NO_RESOLVER),
        }
    }
}

/// What a token begins with: the base64 of `{"`.
const TOKEN_START: &str = "eyJ";

/// Tokens themselves, or files that hold them.
pub(super) fn tokens(decoder: &mut Decoder<'_>, options: &mut OperatorOptions, entry: &Entry) {
    for text in decoder.texts(entry) {
        if text.starts_with(TOKEN_START) {
            options.tokens.push(text);
            continue;
        }
        match (decoder.load)(&text) {
            Ok(content) => match token_in(&content) {
                Some(token) => options.tokens.push(token),
                None => decoder.error(
                    entry,
                    format!("error parsing operator JWT: {text} holds no token"),
                ),
            },
            Err(reason) => {
                decoder.error(entry, format!("error parsing operator JWT: {reason}"));
            }
        }
    }
}

/// The token of a file: alone in it, or between `-----BEGIN` and `-----END` lines.
fn token_in(content: &str) -> Option<String> {
    content
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(TOKEN_START))
        .map(str::to_owned)
}

pub(super) fn trusted_keys(
    decoder: &mut Decoder<'_>,
    options: &mut OperatorOptions,
    entry: &Entry,
) {
    options.trusted_keys = decoder.texts(entry);
}

pub(super) fn resolver(decoder: &mut Decoder<'_>, options: &mut OperatorOptions, entry: &Entry) {
    match &entry.value {
        Value::Text(text)
            if text.eq_ignore_ascii_case("memory") || text.eq_ignore_ascii_case("mem") =>
        {
            options.resolver = Resolver::Memory;
        }
        Value::Text(text) if text.to_ascii_lowercase().starts_with("url") => {
            decoder.error(
                entry,
                "the URL resolver is not supported yet by this version",
            );
        }
        Value::Map(map) => {
            let mut block = Block::default();
            decoder.fields(map, &mut block, &FIELDS.iter().collect::<Vec<_>>(), ignored);
            block.apply(decoder, options, entry);
        }
        _ => decoder.error(entry, NO_RESOLVER),
    }
}

pub(super) fn preload(decoder: &mut Decoder<'_>, options: &mut OperatorOptions, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    for account in map.in_file_order() {
        if let Some(token) = decoder.text(account) {
            options.preload.insert(account.key.clone(), token);
        }
    }
}

pub(super) fn pinned_accounts(
    decoder: &mut Decoder<'_>,
    options: &mut OperatorOptions,
    entry: &Entry,
) {
    options.pinned_accounts = decoder.texts(entry);
}
