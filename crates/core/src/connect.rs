//! What a client has asked for in its CONNECTs. A later CONNECT changes only the fields it names,
//! as in the reference, so the sum of all is kept. Judging it is left to `login.rs`.

use millrace_wire::info::ConnectOptions;
use millrace_wire::json::{JsonError, Strictness, from_slice};
use serde::Deserialize;

/// One CONNECT: only what it names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    verbose: Option<bool>,
    pedantic: Option<bool>,
    echo: Option<bool>,
    tls_required: Option<bool>,
    headers: Option<bool>,
    no_responders: Option<bool>,
    protocol: Option<i64>,
    name: Option<String>,
    lang: Option<String>,
    version: Option<String>,
    user: Option<String>,
    pass: Option<String>,
    auth_token: Option<String>,
    jwt: Option<String>,
    nkey: Option<String>,
    sig: Option<String>,
    account: Option<String>,
    new_account: Option<bool>,
    proxy_sig: Option<String>,
}

fn set<T>(value: &mut T, change: Option<T>) {
    if let Some(change) = change {
        *value = change;
    }
}

/// Applies the CONNECT in `json` to what was asked for before.
///
/// # Errors
/// The JSON does not parse or a field has a wrong type: the connection closes silently.
pub(crate) fn apply(options: &mut ConnectOptions, json: &[u8]) -> Result<(), JsonError> {
    let change: Change = from_slice(json, Strictness::Lenient)?;
    set(&mut options.verbose, change.verbose);
    set(&mut options.pedantic, change.pedantic);
    set(&mut options.echo, change.echo);
    set(&mut options.tls_required, change.tls_required);
    set(&mut options.headers, change.headers);
    set(&mut options.no_responders, change.no_responders);
    set(&mut options.protocol, change.protocol);
    set(&mut options.name, change.name);
    set(&mut options.lang, change.lang);
    set(&mut options.version, change.version);
    set(&mut options.user, change.user);
    set(&mut options.pass, change.pass);
    set(&mut options.auth_token, change.auth_token);
    set(&mut options.jwt, change.jwt);
    set(&mut options.nkey, change.nkey);
    set(&mut options.sig, change.sig);
    set(&mut options.account, change.account);
    set(&mut options.new_account, change.new_account);
    set(&mut options.proxy_sig, change.proxy_sig);
    Ok(())
}
