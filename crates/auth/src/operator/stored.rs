//! Account tokens that come and go while the server runs: what they change, if they are genuine.
//! What is known already is not verified again. Writing tokens down is left to the host.

use millrace_config::Options;
use millrace_config::nkey::KeyKind;
use millrace_config::options::Resolver;
use serde::Deserialize;

use super::OperatorMode;
use super::claims::AccountClaims;
use super::token::{Claims, Token, null_is_default};

/// New options, and the token files that must change before they are in force.
#[derive(Clone, Debug)]
pub struct TokenChange {
    /// What the server runs with afterwards, and whom it trusts and knows then.
    pub options: Options,
    pub mode: OperatorMode,
    /// Accounts and tokens to be written.
    pub written: Vec<(String, String)>,
    /// Accounts whose tokens go.
    pub removed: Vec<String>,
}

/// Takes an account's token. `named` is the account that the subject of the request speaks of.
///
/// # Errors
/// Why the token changes nothing, in the words that tools show.
pub fn update_account(
    mode: &OperatorMode,
    options: &Options,
    named: Option<&str>,
    text: &str,
) -> Result<TokenChange, String> {
    let token = Token::<AccountClaims>::decode(text).map_err(|error| error.to_string())?;
    let key = token.subject.clone();
    if named.is_some_and(|named| named != key) {
        return Err("subject does not match jwt content".to_owned());
    }
    if !mode.trusts(&token.issuer) {
        return Err("jwt validation failed".to_owned());
    }
    let Resolver::Full(resolver) = &options.operator.resolver else {
        return Err("the resolver takes no updates".to_owned());
    };
    let stored = &options.operator.stored;
    let is_new = !stored.contains_key(&key);
    if is_new && resolver.limit > 0 && stored.len() >= resolver.limit {
        return Err("jwt store is full".to_owned());
    }
    let mut changed = options.clone();
    let text = text.trim().to_owned();
    changed.operator.stored.insert(key.clone(), text.clone());
    let mut mode = mode.clone();
    mode.accounts.remove(&key);
    // Also an older one is in force, as in the reference. At the next start the newest counts.
    mode.learn(&key, token);
    mode.fill(&mut changed);
    Ok(TokenChange {
        options: changed,
        mode,
        written: vec![(key, text)],
        removed: Vec::new(),
    })
}

/// Accounts to be deleted, in a token that an operator signed for itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteClaims {
    #[serde(deserialize_with = "null_is_default")]
    accounts: Vec<String>,
}

impl Claims for DeleteClaims {
    const TYPE: &'static str = "generic";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Operator];
    const SUBJECT: Option<KeyKind> = None;
}

/// Takes a request to delete accounts.
///
/// # Errors
/// Why nothing is deleted, in the words that tools show.
pub fn delete_accounts(
    mode: &OperatorMode,
    options: &Options,
    text: &str,
) -> Result<TokenChange, String> {
    let token = Token::<DeleteClaims>::decode(text)
        .map_err(|error| format!("delete accounts request failed - {error}"))?;
    deletion(mode, options, &token).map_err(|reason| {
        let subject = &token.subject;
        format!("delete accounts request by {subject} failed - {reason}")
    })
}

fn deletion(
    mode: &OperatorMode,
    options: &Options,
    token: &Token<DeleteClaims>,
) -> Result<TokenChange, String> {
    let Resolver::Full(resolver) = &options.operator.resolver else {
        return Err("delete must be enabled in server config".to_owned());
    };
    if !resolver.allow_delete {
        return Err("delete must be enabled in server config".to_owned());
    }
    if token.issuer != token.subject {
        return Err("not self signed".to_owned());
    }
    if !mode.trusts(&token.issuer) {
        return Err("not trusted".to_owned());
    }
    if token.claims.accounts.is_empty() {
        return Err("malformed request".to_owned());
    }
    let system = options.system_account.as_deref();
    if token
        .claims
        .accounts
        .iter()
        .any(|key| Some(key.as_str()) == system)
    {
        return Err("not allowed to delete system account".to_owned());
    }
    let mut changed = options.clone();
    let mut mode = mode.clone();
    let mut removed = Vec::new();
    for key in &token.claims.accounts {
        changed.operator.preload.remove(key);
        mode.accounts.remove(key);
        if changed.operator.stored.remove(key).is_some() {
            removed.push(key.clone());
        }
    }
    mode.fill(&mut changed);
    Ok(TokenChange {
        options: changed,
        mode,
        written: Vec::new(),
        removed,
    })
}
