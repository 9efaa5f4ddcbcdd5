//! The `accounts` block.

use std::collections::BTreeSet;

use super::authorization;
use super::jetstream::{is_enabled_word, storage_size};
use super::permissions;
use super::{Decoder, Field, field, unknown_field};
use super::{mappings, sharing};
use crate::language::{Entry, Map, Value};
use crate::nkey::{KeyKind, PublicKey};
use crate::options::{AccountJetStream, AccountLimits, AccountOptions, Options};

/// The account of clients that belong to no other.
const GLOBAL_ACCOUNT: &str = "$G";

/// Reads the `accounts` block: a map of accounts, or a list of names.
pub(super) fn decode(decoder: &mut Decoder<'_>, entry: &Entry, accounts: &mut Vec<AccountOptions>) {
    match &entry.value {
        Value::Map(map) => {
            for item in map.in_file_order() {
                if let Some(account) = account(decoder, item) {
                    accounts.push(account);
                }
            }
        }
        Value::Array(_) => {
            for name in decoder.texts(entry) {
                if name == GLOBAL_ACCOUNT {
                    decoder.error(entry, format!("{name:?} is a Reserved Account"));
                } else if accounts.iter().any(|account| account.name == name) {
                    decoder.error(entry, format!("Duplicate Account Entry: {name}"));
                } else {
                    accounts.push(AccountOptions {
                        name,
                        ..AccountOptions::default()
                    });
                }
            }
        }
        other => {
            let found = other.type_name();
            decoder.error(
                entry,
                format!("Expected accounts to be a map or a list, got {found}"),
            );
        }
    }
}

fn account(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<AccountOptions> {
    if entry.key == GLOBAL_ACCOUNT {
        decoder.error(entry, format!("{:?} is a Reserved Account", entry.key));
        return None;
    }
    let Value::Map(map) = &entry.value else {
        if !entry.referenced {
            decoder.error(entry, "Expected map entries for accounts");
        }
        return None;
    };
    let mut account = AccountOptions {
        name: entry.key.clone(),
        ..AccountOptions::default()
    };
    let table: Vec<&Field<AccountOptions>> = FIELDS.iter().collect();
    decoder.fields(map, &mut account, &table, unknown_field);
    let default = account.default_permissions.clone();
    authorization::fill_permissions(&mut account.users, default.as_ref());
    Some(account)
}

const FIELDS: &[Field<AccountOptions>] = &[
    field(&["users"], |d, a, e| a.users = authorization::users(d, e)),
    field(&["nkey"], |d, a, e| {
        if let Some(nkey) = d.text(e) {
            if PublicKey::is_kind(&nkey, KeyKind::Account) {
                a.nkey = Some(nkey);
            } else {
                d.error(
                    e,
                    format!("Not a valid public nkey for an account: {nkey:?}"),
                );
            }
        }
    }),
    field(&["default_permissions"], |d, a, e| {
        a.default_permissions = permissions::decode(d, e)
    }),
    field(&["jetstream"], |d, a, e| a.jetstream = jetstream(d, e)),
    field(&["limits"], limits),
    field(&["exports"], sharing::exports),
    field(&["imports"], sharing::imports),
    field(&["mappings", "maps"], |d, a, e| {
        mappings::decode(d, &mut a.mappings, e)
    }),
    field(&["msg_trace", "trace_dest"], |d, a, e| {
        sharing::message_trace(d, &mut a.message_trace, e);
    }),
];

fn limits(decoder: &mut Decoder<'_>, account: &mut AccountOptions, entry: &Entry) {
    let Some(map) = decoder.map(entry) else {
        return;
    };
    let table: Vec<&Field<AccountLimits>> = LIMITS.iter().collect();
    decoder.fields(map, &mut account.limits, &table, |key| {
        format!("Unknown field {key:?} parsing account limits")
    });
}

const LIMITS: &[Field<AccountLimits>] = &[
    field(&["max_connections", "max_conn"], |d, l, e| {
        d.set_integer(e, &mut l.max_connections)
    }),
    field(&["max_subscriptions", "max_subs"], |d, l, e| {
        d.set_integer(e, &mut l.max_subscriptions)
    }),
    field(&["max_payload", "max_pay"], |d, l, e| {
        d.set_integer(e, &mut l.max_payload)
    }),
    field(&["max_leafnodes", "max_leafs"], |d, l, e| {
        d.set_integer(e, &mut l.max_leafnodes)
    }),
];

fn jetstream(decoder: &mut Decoder<'_>, entry: &Entry) -> Option<AccountJetStream> {
    match &entry.value {
        Value::Bool(enabled) => enabled.then(AccountJetStream::default),
        Value::Text(text) => match is_enabled_word(text) {
            Some(enabled) => enabled.then(AccountJetStream::default),
            None => {
                let text =
                    format!("Expected 'enabled' or 'disabled' for string value, got '{text}'");
                decoder.error(entry, text);
                None
            }
        },
        Value::Map(map) => {
            let mut limits = AccountJetStream::default();
            let table: Vec<&Field<AccountJetStream>> = JETSTREAM.iter().collect();
            decoder.fields(map, &mut limits, &table, unknown_field);
            Some(limits)
        }
        other => {
            let found = other.type_name();
            let text = format!("Expected map, bool or string to define JetStream, got {found}");
            decoder.error(entry, text);
            None
        }
    }
}

const JETSTREAM: &[Field<AccountJetStream>] = &[
    field(&["max_memory", "max_mem", "mem", "memory"], |d, j, e| {
        storage_size(d, e, &mut j.max_memory);
    }),
    field(
        &["max_file", "max_store", "max_disk", "store", "disk"],
        |d, j, e| {
            storage_size(d, e, &mut j.max_file);
        },
    ),
    field(&["max_streams", "streams"], |d, j, e| {
        d.set_integer(e, &mut j.max_streams)
    }),
    field(&["max_consumers", "consumers"], |d, j, e| {
        d.set_integer(e, &mut j.max_consumers)
    }),
    field(
        &["max_bytes_required", "max_stream_bytes", "max_bytes"],
        |d, j, e| {
            d.set_bool(e, &mut j.max_bytes_required);
        },
    ),
    field(
        &["memory_max_stream_bytes", "mem_max_stream_bytes"],
        |d, j, e| {
            storage_size(d, e, &mut j.memory_max_stream_bytes);
        },
    ),
    field(
        &["disk_max_stream_bytes", "store_max_stream_bytes"],
        |d, j, e| {
            storage_size(d, e, &mut j.disk_max_stream_bytes);
        },
    ),
    field(&["max_ack_pending"], |d, j, e| {
        d.set_integer(e, &mut j.max_ack_pending)
    }),
    // There is no cluster whose traffic could be counted for somebody.
    field(&["cluster_traffic"], |d, _, e| {
        if let Some(whose) = d.text(e)
            && !["system", "owner"].contains(&whose.as_str())
        {
            let key = &e.key;
            let text =
                format!("Expected 'system' or 'owner' string value for {key:?}, got {whose}");
            d.error(e, text);
        }
    }),
];

/// Finds users that are named twice, also across accounts.
pub(super) fn check_users(decoder: &mut Decoder<'_>, root: &Map, options: &Options) {
    let mut seen = BTreeSet::new();
    let block = |name: &str| {
        root.iter()
            .find(|entry| entry.key.eq_ignore_ascii_case(name))
    };
    let mut check = |decoder: &mut Decoder<'_>, users: &[crate::options::UserOptions], place| {
        for user in users {
            let name = user.nkey.as_ref().unwrap_or(&user.name);
            if !seen.insert(name.clone())
                && let Some(place) = place
            {
                let kind = if user.nkey.is_some() { "nkey" } else { "user" };
                decoder.error(place, format!("Duplicate {kind} {name:?} detected"));
            }
        }
    };
    check(
        decoder,
        &options.authorization.users,
        block("authorization"),
    );
    let accounts = block("accounts");
    for account in &options.accounts {
        let place = match accounts.map(|entry| &entry.value) {
            Some(Value::Map(map)) => map.get(&account.name),
            _ => accounts,
        };
        check(decoder, &account.users, place);
    }
}
