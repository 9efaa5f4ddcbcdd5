//! Operator mode (spec core/11): users prove who they are with tokens that their account signed,
//! accounts with tokens that a trusted operator signed.
//!
//! Account tokens become accounts of the options, so that everything behind the login sees
//! accounts like those of a configuration file. Where tokens are stored is left to the resolver.

pub mod claims;
mod login;
mod sharing;
mod stored;
mod template;
mod times;
pub mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_config::options::{
    AccountJetStream, AccountLimits, AccountOptions, OperatorOptions, PermissionOptions, Resolver,
    ResponseOptions, SubjectList,
};
use millrace_config::{COMPATIBLE_VERSION, Options};

pub(crate) use login::admit_placed;
pub use stored::{TokenChange, delete_accounts, update_account};

use claims::{
    AccountClaims, AccountLimitClaims, JetStreamLimitClaims, OperatorClaims, PermissionClaims,
    SubjectClaims, UserClaims,
};
use millrace_config::nkey::{KeyKind, PublicKey};
use token::{Token, TokenError};

/// Verified tokens by the key of their account.
type AccountTokens = BTreeMap<String, Arc<Token<AccountClaims>>>;

/// Whom this server trusts, and the accounts it knows, all verified. Copies share the tokens.
#[derive(Clone)]
pub struct OperatorMode {
    /// Public keys that may sign accounts.
    trusted: BTreeSet<String>,
    /// Those of operators that want nothing signed by an identity key.
    strict: BTreeSet<String>,
    accounts: AccountTokens,
    system_account: Option<String>,
    default_sentinel: Option<String>,
    pinned_accounts: Vec<String>,
}

impl OperatorMode {
    /// Verifies the operators and account tokens of the options.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence for the user.
    pub fn new(options: &OperatorOptions, system_account: Option<&str>) -> Result<Self, String> {
        let mut mode = Self {
            trusted: BTreeSet::new(),
            strict: BTreeSet::new(),
            accounts: BTreeMap::new(),
            system_account: system_account.map(str::to_owned),
            default_sentinel: options.default_sentinel.clone(),
            pinned_accounts: options.pinned_accounts.clone(),
        };
        for key in &options.trusted_keys {
            if !PublicKey::is_kind(key, KeyKind::Operator) {
                return Err("trusted Keys setup error: keys must be operator keys".to_owned());
            }
            mode.trusted.insert(key.clone());
        }
        for text in &options.tokens {
            let operator = Token::<OperatorClaims>::decode(text)
                .map_err(|error| format!("error parsing operator JWT: {error}"))?;
            mode.trust(&operator)?;
        }
        if options.resolver == Resolver::None {
            return Err("operators require an account resolver to be configured".to_owned());
        }
        for (key, text) in &options.preload {
            let account = mode
                .verify_account(key, text)
                .map_err(|error| format!("resolver_preload: account {key}: {error}"))?;
            mode.accounts.insert(key.clone(), Arc::new(account));
        }
        for (key, text) in &options.stored {
            if let Ok(account) = mode.verify_account(key, text) {
                mode.learn(key, account);
            }
        }
        mode.check_pinned()?;
        Ok(mode)
    }

    /// Takes a verified account over, unless a newer token of it is known.
    fn learn(&mut self, key: &str, account: Token<AccountClaims>) {
        let is_newer = |known: &Arc<Token<AccountClaims>>| known.issued_at_s > account.issued_at_s;
        if !self.accounts.get(key).is_some_and(is_newer) {
            self.accounts.insert(key.to_owned(), Arc::new(account));
        }
    }

    /// A mode that trusts nobody.
    pub(crate) fn closed(_reason: String) -> Self {
        Self {
            trusted: BTreeSet::new(),
            strict: BTreeSet::new(),
            accounts: BTreeMap::new(),
            system_account: None,
            default_sentinel: None,
            pinned_accounts: Vec::new(),
        }
    }

    fn trust(&mut self, operator: &Token<OperatorClaims>) -> Result<(), String> {
        let claims = &operator.claims;
        check_version(&operator.subject, &claims.assert_server_version)?;
        for key in &claims.signing_keys {
            if !PublicKey::is_kind(key, KeyKind::Operator) {
                return Err(format!("operator signing key {key:?} is no operator key"));
            }
            self.trusted.insert(key.clone());
        }
        if claims.strict_signing_key_usage {
            self.strict.extend(claims.signing_keys.iter().cloned());
        } else {
            self.trusted.insert(operator.subject.clone());
        }
        let named = Some(&claims.system_account).filter(|name| !name.is_empty());
        match (named, &self.system_account) {
            (Some(named), Some(configured)) if named != configured => {
                Err("system_account in config and operator JWT must be identical".to_owned())
            }
            (Some(named), None) => {
                self.system_account = Some(named.clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// An account token that a trusted key signed, for the account of this key.
    fn verify_account(&self, key: &str, text: &str) -> Result<Token<AccountClaims>, TokenError> {
        let token = Token::<AccountClaims>::decode(text)?;
        if token.subject != key {
            return Err(TokenError::Key(token.subject, "subject"));
        }
        if !self.trusts(&token.issuer) {
            return Err(TokenError::Key(token.issuer, "issuer"));
        }
        Ok(token)
    }

    fn trusts(&self, issuer: &str) -> bool {
        self.trusted.contains(issuer)
    }

    /// Makes the accounts of the options those of the tokens.
    fn fill(&self, options: &mut Options) -> Vec<String> {
        options.system_account.clone_from(&self.system_account);
        let accounts = self.accounts.iter();
        options.accounts = accounts
            .map(|(key, token)| account_options(key, token))
            .collect();
        sharing::share(&mut options.accounts, &self.accounts)
    }

    fn check_pinned(&self) -> Result<(), String> {
        let wrong = |key: &&String| !PublicKey::is_kind(key, KeyKind::Account);
        match self.pinned_accounts.iter().find(wrong) {
            Some(key) => Err(format!(
                "resolver_pinned_accounts: {key:?} is no public account key"
            )),
            None => Ok(()),
        }
    }
}

/// Why a revoked user is refused.
pub(crate) const REVOKED: &str = "user was revoked";

impl std::fmt::Debug for OperatorMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OperatorMode")
            .field("trusted", &self.trusted)
            .field("accounts", &self.accounts.len())
            .finish_non_exhaustive()
    }
}

/// In operator mode: verifies its options and adds the accounts of the tokens to `accounts`, each
/// under its public key. Without an operator nothing happens. Gives back what of the tokens is left
/// out because it is not allowed, as sentences for the user.
///
/// # Errors
/// What contradicts operator mode or cannot be verified, as a sentence for the user.
pub fn add_operator_accounts(options: &mut Options) -> Result<Vec<String>, String> {
    if !options.operator.is_on() {
        return Ok(Vec::new());
    }
    refuse_configured_users(options)?;
    if matches!(options.operator.resolver, Resolver::Full(_)) {
        // A resolver that keeps tokens begins with those of the configuration.
        for (key, token) in &options.operator.preload {
            let stored = &mut options.operator.stored;
            stored.entry(key.clone()).or_insert_with(|| token.clone());
        }
    }
    expand(options)
}

/// Makes the accounts of the options those of their tokens.
fn expand(options: &mut Options) -> Result<Vec<String>, String> {
    let mode = OperatorMode::new(&options.operator, options.system_account.as_deref())?;
    Ok(mode.fill(options))
}

fn refuse_configured_users(options: &Options) -> Result<(), String> {
    let block = &options.authorization;
    let has_users = !block.users.is_empty() || block.user.is_some() || block.token.is_some();
    let named = [
        (!options.accounts.is_empty(), "accounts"),
        (has_users, "users"),
        (options.no_auth_user.is_some(), "no_auth_user"),
    ];
    match named.iter().find(|(given, _)| *given) {
        Some((_, "no_auth_user")) => {
            Err("no_auth_user not compatible with Trusted Operator".to_owned())
        }
        Some((_, "accounts")) => {
            Err("conflicting options for 'TrustedKeys' and 'Accounts'".to_owned())
        }
        Some(_) => Err("conflicting options for 'TrustedKeys' and 'Users'".to_owned()),
        None => Ok(()),
    }
}

fn account_options(key: &str, token: &Token<AccountClaims>) -> AccountOptions {
    let limits = &token.claims.limits;
    AccountOptions {
        name: key.to_owned(),
        nkey: Some(key.to_owned()),
        jetstream: tiered_limits(limits),
        limits: AccountLimits {
            max_connections: limits.conn,
            max_subscriptions: limits.subs,
            max_payload: limits.payload,
            max_leafnodes: limits.leaf,
        },
        ..AccountOptions::default()
    }
}

/// What an account may store: by number of replicas, if it says so.
fn tiered_limits(limits: &AccountLimitClaims) -> Option<AccountJetStream> {
    let tiers = limits.tiered_limits.iter();
    let tiers: BTreeMap<String, AccountJetStream> = tiers
        .filter_map(|(name, claims)| Some((name.clone(), jetstream_limits(claims)?)))
        .collect();
    if tiers.is_empty() {
        return jetstream_limits(&limits.jetstream);
    }
    let single = tiers.get("R1").cloned().unwrap_or_default();
    Some(AccountJetStream { tiers, ..single })
}

/// JetStream is on for an account that may store something.
fn jetstream_limits(claims: &JetStreamLimitClaims) -> Option<AccountJetStream> {
    // Zero says "no limit" for what is counted, and "nothing" for what is stored.
    let counted = |limit: i64| if limit == 0 { -1 } else { limit };
    (claims.mem_storage != 0 || claims.disk_storage != 0).then(|| AccountJetStream {
        max_memory: claims.mem_storage,
        max_file: claims.disk_storage,
        max_streams: counted(claims.streams),
        max_consumers: counted(claims.consumer),
        max_bytes_required: claims.max_bytes_required,
        memory_max_stream_bytes: counted(claims.mem_max_stream_bytes),
        disk_max_stream_bytes: counted(claims.disk_max_stream_bytes),
        max_ack_pending: counted(claims.max_ack_pending),
        tiers: BTreeMap::new(),
    })
}

/// Permissions in the form of the configuration; `None` when nothing is said.
fn permission_options(claims: &PermissionClaims) -> Option<PermissionOptions> {
    if *claims == PermissionClaims::default() {
        return None;
    }
    let list = |lists: &SubjectClaims| {
        let said = !lists.allow.is_empty() || !lists.deny.is_empty();
        said.then(|| SubjectList {
            allow: lists.allow.clone(),
            deny: lists.deny.clone(),
        })
    };
    Some(PermissionOptions {
        publish: list(&claims.publish),
        subscribe: list(&claims.subscribe),
        allow_responses: claims.responses.map(|responses| ResponseOptions {
            max_messages: responses.max_messages,
            expires_ns: responses.expires_ns,
        }),
    })
}

/// Whether a user of the account was revoked after its token was made.
fn is_revoked(account: &AccountClaims, user: &Token<UserClaims>) -> bool {
    let until = |key: &str| account.revocations.get(key).copied();
    [until("*"), until(&user.subject)]
        .into_iter()
        .flatten()
        .any(|until_s| until_s >= user.issued_at_s)
}

/// Major, minor and update of a version; `None` if it is none.
fn version_numbers(text: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// Holds the oldest version that an operator accepts against the one whose behaviour this server has.
fn check_version(operator: &str, wanted: &str) -> Result<(), String> {
    if wanted.is_empty() {
        return Ok(());
    }
    let (Some(wanted), Some(own)) = (version_numbers(wanted), version_numbers(COMPATIBLE_VERSION))
    else {
        return Err(format!(
            "operator {operator} expects server version {wanted:?}, which is none"
        ));
    };
    for (part, (wanted, own)) in ["major", "minor", "update"]
        .iter()
        .zip(wanted.iter().zip(own))
    {
        match wanted.cmp(&own) {
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => {
                return Err(format!(
                    "operator {operator} expected {part} version {wanted} > server {part} version {own}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod version_tests {
    use super::check_version;

    // proves: JWT-11
    #[test]
    fn an_operator_may_ask_for_a_newer_server_than_this() {
        for fits in ["", "2.15.1", "2.15.0", "2.14.99", "1.99.99"] {
            assert_eq!(check_version("O", fits), Ok(()), "{fits}");
        }
        for (wanted, part, own) in [
            ("3.0.0", "major", 2),
            ("2.16.0", "minor", 15),
            ("2.15.2", "update", 1),
        ] {
            let text = check_version("O", wanted).expect_err("too new");
            assert!(
                text.contains(&format!("server {part} version {own}")),
                "{text}"
            );
        }
        assert!(check_version("O", "new").is_err());
    }
}
