//! The `auth_callout` block: who is asked about clients.

use super::{Decoder, Field, field};
use crate::language::{Entry, Value};
use crate::nkey::{KeyKind, PublicKey};
use crate::options::CalloutOptions;

/// The account of clients that belong to no other.
const GLOBAL_ACCOUNT: &str = "$G";

const FIELDS: &[Field<CalloutOptions>] = &[
    field(&["issuer"], |d, c, e| {
        let Some(issuer) = d.text(e) else { return };
        if !PublicKey::is_kind(&issuer, KeyKind::Account) {
            let text =
                format!("Expected callout user to be a valid public account nkey, got {issuer:?}");
            d.error(e, text);
        }
        c.issuer = issuer;
    }),
    field(&["account", "acc"], |d, c, e| {
        if let Some(account) = d.text(e) {
            c.account = account;
        }
    }),
    field(&["auth_users", "users"], |d, c, e| {
        c.users = names(d, e, "auth_users field");
    }),
    field(&["xkey", "key"], |d, c, e| {
        let Some(key) = d.text(e) else { return };
        if !PublicKey::is_kind(&key, KeyKind::Curve) {
            let text = format!("Expected callout xkey to be a valid public xkey, got {key:?}");
            d.error(e, text);
        }
        c.curve_key = Some(key);
    }),
    field(&["allowed_accounts"], |d, c, e| {
        c.allowed_accounts = names(d, e, "allowed accounts field");
    }),
];

fn names(decoder: &mut Decoder<'_>, entry: &Entry, what: &str) -> Vec<String> {
    if !matches!(entry.value, Value::Array(_)) {
        let found = entry.value.type_name();
        decoder.error(
            entry,
            format!("Expected {what} to be an array, got {found}"),
        );
        return Vec::new();
    }
    decoder.texts(entry)
}

fn unknown(key: &str) -> String {
    format!("Unknown field {key:?} parsing authorization callout")
}

/// Reads the block.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<CalloutOptions> {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.shown();
        let text = format!("Expected authorization callout to be a map/struct, got {found}");
        decoder.error(entry, text);
        return None;
    };
    let mut callout = CalloutOptions::default();
    let table: Vec<&Field<CalloutOptions>> = FIELDS.iter().collect();
    let errors_before = decoder.errors.len();
    decoder.fields(map, &mut callout, &table, unknown);
    if callout.account.is_empty() {
        GLOBAL_ACCOUNT.clone_into(&mut callout.account);
    }
    if decoder.errors.len() > errors_before {
        return None;
    }
    let missing = match (callout.issuer.as_str(), callout.users.as_slice()) {
        ("", _) => "an issuer",
        (_, []) => "authorized users",
        _ => return Some(callout),
    };
    let text = format!("Authorization callouts require {missing} to be specified");
    decoder.error(entry, text);
    None
}
