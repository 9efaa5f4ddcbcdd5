//! Keys of operator mode. Tokens are taken as texts; whether they are genuine is checked by `auth`
//! before the server starts.

use super::Decoder;
use crate::language::{Entry, Value};
use crate::options::{OperatorOptions, Resolver};

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
        Value::Map(_) => {
            decoder.error(
                entry,
                "directory resolvers are not supported yet by this version",
            );
        }
        _ => decoder.error(
            entry,
            "error parsing account resolver, should be MEM or URL(\"url\") or a map containing dir \
             and type state=[FULL|CACHE])",
        ),
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
