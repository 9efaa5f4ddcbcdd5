//! The `authorization` block and the users in it.

use super::permissions;
use super::{Decoder, Field, field, unknown_field};
use crate::language::{Entry, Value};
use crate::nkey::{KeyKind, PublicKey};
use crate::options::{AuthorizationOptions, ConnectionType, UserOptions};

const HIGH_TIMEOUT_NS: u64 = 60_000_000_000;

/// Reads the `authorization` block.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    entry: &Entry,
    authorization: &mut AuthorizationOptions,
) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<AuthorizationOptions>> = FIELDS.iter().collect();
    decoder.fields(map, authorization, &table, unknown_field);
    let default = authorization.default_permissions.clone();
    fill_permissions(&mut authorization.users, default.as_ref());
    let has_single = authorization.user.is_some() || authorization.password.is_some();
    if authorization.token.is_some() && has_single {
        decoder.error(entry, "Cannot have a user/pass and token");
    }
    if authorization.token.is_some() && !authorization.users.is_empty() {
        decoder.error(entry, "Can not have a token and a users array");
    }
    if authorization.user.is_some() && !authorization.users.is_empty() {
        decoder.error(entry, "Can not have a single user/pass and a users array");
    }
}

/// Gives the default permissions to users without their own.
pub(super) fn fill_permissions(
    users: &mut [UserOptions],
    default: Option<&crate::options::PermissionOptions>,
) {
    for user in users {
        if user.permissions.is_none() {
            user.permissions = default.cloned();
        }
    }
}

const FIELDS: &[Field<AuthorizationOptions>] = &[
    field(&["user", "username"], |d, a, e| d.set_text(e, &mut a.user)),
    field(&["pass", "password"], |d, a, e| {
        d.set_text(e, &mut a.password)
    }),
    field(&["token"], |d, a, e| d.set_text(e, &mut a.token)),
    field(&["timeout"], timeout),
    field(&["users"], |d, a, e| a.users = users(d, e)),
    field(
        &["default_permissions", "default_permission", "permissions"],
        |d, a, e| {
            a.default_permissions = permissions::decode(d, e);
        },
    ),
    field(&["auth_callout", "auth_hook"], |d, a, e| {
        a.callout = super::callout::decode(d, e)
    }),
    field(&["proxy_required"], |d, a, e| {
        d.set_bool(e, &mut a.proxy_required)
    }),
];

fn timeout(decoder: &mut Decoder<'_>, block: &mut AuthorizationOptions, entry: &Entry) {
    let Some(timeout_ns) = decoder.timeout_ns(entry, "authorization") else {
        return;
    };
    block.timeout_ns = timeout_ns;
    if timeout_ns > HIGH_TIMEOUT_NS {
        let seconds = timeout_ns / 1_000_000_000;
        let shown = entry.value.shown();
        decoder.warning(
            entry,
            format!(
                "timeout of {shown} ({seconds}.000000 seconds) is high, consider keeping it under 60 seconds. \
                 possibly caused by unquoted duration; use '1m' instead of 1m, for example"
            ),
        );
    }
}

/// Reads a list of users.
pub(super) fn users(decoder: &mut Decoder<'_>, entry: &Entry) -> Vec<UserOptions> {
    let Value::Array(elements) = &entry.value else {
        let found = entry.value.shown();
        decoder.error(
            entry,
            format!("Expected users field to be an array, got {found}"),
        );
        return Vec::new();
    };
    elements
        .iter()
        .filter_map(|element| user(decoder, element))
        .collect()
}

fn user(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<UserOptions> {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.shown();
        decoder.error(
            entry,
            format!("Expected user entry to be a map/struct, got {found}"),
        );
        return None;
    };
    let mut user = UserOptions::default();
    let errors_before = decoder.errors.len();
    let table: Vec<&Field<UserOptions>> = USER.iter().collect();
    decoder.fields(map, &mut user, &table, unknown_field);
    if decoder.errors.len() > errors_before {
        // What is missing may be what was wrong.
        return Some(user);
    }
    let has_name = !user.name.is_empty() || !user.password.is_empty();
    if user.nkey.is_some() && has_name {
        decoder.error(entry, "Nkey users do not take usernames or passwords");
    }
    if user.nkey.is_none() && user.name.is_empty() {
        decoder.error(entry, "User entry requires a user");
    }
    Some(user)
}

const USER: &[Field<UserOptions>] = &[
    field(&["user", "username"], |d, u, e| {
        if let Some(name) = d.text(e) {
            u.name = name;
        }
    }),
    field(&["pass", "password"], |d, u, e| {
        if let Some(password) = d.text(e) {
            u.password = password;
        }
    }),
    field(&["nkey"], |d, u, e| {
        if let Some(nkey) = d.text(e) {
            if PublicKey::is_kind(&nkey, KeyKind::User) {
                u.nkey = Some(nkey);
            } else {
                d.error(e, "Not a valid public nkey for a user");
            }
        }
    }),
    field(
        &["permissions", "permission", "authorization"],
        |d, u, e| {
            u.permissions = permissions::decode(d, e);
        },
    ),
    field(
        &["allowed_connection_types", "connection_types", "clients"],
        |d, u, e| {
            u.allowed_connection_types = connection_types(d, e);
        },
    ),
    field(&["proxy_required"], |d, u, e| {
        d.set_bool(e, &mut u.proxy_required)
    }),
];

fn connection_types(decoder: &mut Decoder<'_>, entry: &Entry) -> Vec<ConnectionType> {
    let mut types = Vec::new();
    for name in decoder.texts(entry) {
        match ConnectionType::from_name(&name) {
            Some(known) => types.push(known),
            None => {
                let name = name.to_ascii_uppercase();
                decoder.error(entry, format!("invalid connection types [{name:?}]"));
            }
        }
    }
    types
}
