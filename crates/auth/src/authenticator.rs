//! Decides who a client is from the credentials in its CONNECT (spec core/09 §9.1).

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::Options;
use millrace_config::options::{CalloutOptions, ConnectionType, UserOptions};

use crate::callout::Callout;
use crate::distinguished_name::DistinguishedName;
use crate::operator::{OperatorMode, REVOKED};
use crate::proxies::{ProxyProblem, TrustedProxies};
use crate::signature::is_signed;
use crate::{Permissions, secret};

/// The account of clients that belong to no other.
const GLOBAL_ACCOUNT: &str = "$G";
/// The system account, unless the configuration names another.
const SYSTEM_ACCOUNT: &str = "$SYS";

/// What a client sent in CONNECT to say who it is. Absent fields are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// `user`.
    pub user: Option<&'a str>,
    /// `pass`.
    pub password: Option<&'a str>,
    /// `auth_token`.
    pub token: Option<&'a str>,
    /// `nkey`.
    pub nkey: Option<&'a str>,
    /// `sig`.
    pub signature: Option<&'a str>,
    /// `jwt`.
    pub jwt: Option<&'a str>,
    /// `proxy_sig`.
    pub proxy_signature: Option<&'a str>,
}

impl<'a> Credentials<'a> {
    /// Empty fields say the same as absent ones.
    fn normalized(&self) -> Self {
        let present = |field: Option<&'a str>| field.filter(|text| !text.is_empty());
        Self {
            user: present(self.user),
            password: present(self.password),
            token: present(self.token),
            nkey: present(self.nkey),
            signature: present(self.signature),
            jwt: present(self.jwt),
            proxy_signature: present(self.proxy_signature),
        }
    }

    fn are_empty(&self) -> bool {
        self.user.is_none()
            && self.password.is_none()
            && self.token.is_none()
            && self.nkey.is_none()
    }
}

/// What the server itself knows about the connection.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// How the client is connected.
    pub connection_type: ConnectionType,
    /// The nonce sent in INFO; empty if none was.
    pub nonce: &'a [u8],
    /// Users the TLS certificate may stand for, best first; empty without `verify_and_map`.
    pub tls_identities: &'a [String],
    /// Address of the peer, if it has one.
    pub peer_ip: Option<IpAddr>,
    /// Nanoseconds since 1970.
    pub now_wall_ns: i64,
}

/// Who a client turned out to be.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Name of its account, `$G` if nothing else was said.
    pub account: Arc<str>,
    /// Name for logs and monitoring: the user's name, its nkey, or empty.
    pub user: Arc<str>,
    /// What it may do; `None` allows everything.
    pub permissions: Option<Arc<Permissions>>,
    /// Limits of its own, beside those of server and account.
    pub limits: UserLimits,
    /// When it must leave, if ever.
    pub expires: Option<Expiry>,
}

/// Limits of a user; negative means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimits {
    /// Most subscriptions of a connection.
    pub max_subscriptions: i64,
    /// Largest header plus payload in bytes.
    pub max_payload: i64,
}

impl UserLimits {
    /// No limits.
    pub const NONE: Self = Self {
        max_subscriptions: -1,
        max_payload: -1,
    };
}

/// The end of what let a client in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Nanoseconds since 1970.
    pub at_wall_ns: i64,
    /// It is the account that expires, with all its users.
    pub is_account: bool,
}

impl Expiry {
    pub(crate) const fn user(at_wall_ns: i64) -> Self {
        Self {
            at_wall_ns,
            is_account: false,
        }
    }

    pub(crate) const fn account(at_wall_ns: i64) -> Self {
        Self {
            at_wall_ns,
            is_account: true,
        }
    }
}

impl Identity {
    fn unrestricted(user: &str) -> Self {
        Self {
            account: GLOBAL_ACCOUNT.into(),
            user: user.into(),
            permissions: None,
            limits: UserLimits::NONE,
            expires: None,
        }
    }
}

/// A password that must be compared with a bcrypt hash outside the state machines.
#[derive(Clone)]
pub struct HashCheck {
    /// The password sent.
    pub password: String,
    /// The bcrypt text it must match.
    pub hash: String,
    /// Who the client is if it does.
    pub identity: Identity,
}

impl HashCheck {
    /// Compares; takes about 100 ms for common costs, so the host calls it on a thread of its own.
    #[must_use]
    pub fn verify(&self) -> bool {
        bcrypt::verify(&self.password, &self.hash).unwrap_or(false)
    }
}

impl std::fmt::Debug for HashCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashCheck")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why a client was refused. The client only learns "Authorization Violation".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// How the log names the client: `User "x"`, `Nkey "x"`, `Token "[REDACTED]"`, or empty.
    pub who: String,
    /// Why, for the log; empty where nothing is known but that the credentials do not fit.
    pub reason: String,
    /// The account has revoked the user.
    pub is_revoked: bool,
    /// It is about the proxy in front of the client.
    pub proxy: Option<ProxyProblem>,
}

/// The answer to a CONNECT.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Let it in.
    Accept(Identity),
    /// Refuse it.
    Reject(Rejection),
    /// Let it in if the check succeeds.
    NeedHash(Box<HashCheck>),
    /// Ask a service; then `Question::answered` says who the client is.
    Ask(Box<Callout>),
}

/// A user as the rules know it.
#[derive(Clone)]
struct User {
    identity: Identity,
    password: String,
    connection_types: Vec<ConnectionType>,
    needs_proxy: bool,
}

impl User {
    fn new(options: &UserOptions, account: &Arc<str>) -> Self {
        let name = options.nkey.as_deref().unwrap_or(&options.name);
        Self {
            identity: Identity {
                account: Arc::clone(account),
                user: name.into(),
                permissions: options
                    .permissions
                    .as_ref()
                    .map(|p| Arc::new(Permissions::new(p))),
                limits: UserLimits::NONE,
                expires: None,
            },
            password: options.password.clone(),
            connection_types: options.allowed_connection_types.clone(),
            needs_proxy: options.proxy_required,
        }
    }

    fn may_use(&self, connection_type: ConnectionType) -> bool {
        self.connection_types.is_empty() || self.connection_types.contains(&connection_type)
    }
}

/// The rules of one configuration, made once and shared by all connections.
#[derive(Default)]
pub struct Authenticator {
    /// Users by name.
    users: BTreeMap<String, User>,
    /// Users by public nkey.
    nkeys: BTreeMap<String, User>,
    single: Option<(String, String)>,
    token: Option<String>,
    no_auth_user: Option<String>,
    /// The only users are those of the system account: all others may stay nameless.
    only_system_users: bool,
    maps_certificates: bool,
    has_plain_passwords: bool,
    operator: Option<OperatorMode>,
    callout: Option<CalloutOptions>,
    proxies: TrustedProxies,
    /// Everybody must come through a trusted proxy.
    needs_proxy: bool,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("users", &self.users.len())
            .field("nkeys", &self.nkeys.len())
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Compiles the rules of a configuration.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        // The options were verified before the server started; what cannot be verified after
        // all lets nobody in.
        let system = options.system_account.as_deref();
        let mode = options.operator.is_on().then(|| {
            OperatorMode::new(&options.operator, system).unwrap_or_else(OperatorMode::closed)
        });
        Self::with_operator(options, mode)
    }

    /// As [`Self::new`] with the operators and account tokens of the options, verified already.
    #[must_use]
    pub fn with_operator(options: &Options, operator: Option<OperatorMode>) -> Self {
        let block = &options.authorization;
        let mut rules = Self {
            token: block.token.clone(),
            no_auth_user: options.no_auth_user.clone(),
            callout: block.callout.clone(),
            proxies: TrustedProxies::new(&options.client.trusted_proxies),
            needs_proxy: block.proxy_required,
            maps_certificates: options.tls.as_ref().is_some_and(|tls| tls.verify_and_map),
            operator,
            ..Self::default()
        };
        if block.user.is_some() || block.password.is_some() {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            rules.single = Some((text(&block.user), text(&block.password)));
        }
        rules.add_users(&block.users, &GLOBAL_ACCOUNT.into());
        let has_block = rules.single.is_some() || rules.token.is_some() || !block.users.is_empty();
        let system = options.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
        let only_system = options
            .accounts
            .iter()
            .all(|account| account.name == system);
        for account in &options.accounts {
            rules.add_users(&account.users, &account.name.as_str().into());
        }
        rules.only_system_users =
            !has_block && only_system && rules.no_auth_user.is_none() && rules.is_required();
        let plain = |stored: &str| !stored.is_empty() && !secret::is_bcrypt(stored);
        rules.has_plain_passwords = rules.users.values().any(|user| plain(&user.password))
            || rules
                .single
                .as_ref()
                .is_some_and(|(_, password)| plain(password))
            || rules.token.as_deref().is_some_and(plain);
        rules
    }

    fn add_users(&mut self, users: &[UserOptions], account: &Arc<str>) {
        for options in users {
            let user = User::new(options, account);
            match &options.nkey {
                Some(nkey) => self.nkeys.insert(nkey.clone(), user),
                None => self.users.insert(options.name.clone(), user),
            };
        }
    }

    /// Whom it trusts and which accounts it knows, in operator mode.
    #[must_use]
    pub const fn operator(&self) -> Option<&OperatorMode> {
        self.operator.as_ref()
    }

    /// Whether clients have to say who they are at all.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.operator.is_some()
            || self.single.is_some()
            || self.token.is_some()
            || !self.users.is_empty()
            || !self.nkeys.is_empty()
    }

    /// Whether INFO must say `auth_required`: credentials are needed and no `no_auth_user` is set.
    #[must_use]
    pub fn announces_required(&self) -> bool {
        self.is_required() && self.no_auth_user.is_none()
    }

    /// Whether INFO must carry a nonce.
    #[must_use]
    pub fn needs_nonce(&self) -> bool {
        !self.nkeys.is_empty() || self.operator.is_some() || !self.proxies.is_empty()
    }

    /// Whether passwords or tokens stand in the configuration as they are, worth a warning.
    #[must_use]
    pub fn has_plain_passwords(&self) -> bool {
        self.has_plain_passwords
    }

    /// Judges a CONNECT.
    #[must_use]
    pub fn start(&self, credentials: &Credentials<'_>, facts: &Facts<'_>) -> Decision {
        let credentials = credentials.normalized();
        let about_proxy = |problem| {
            let mut rejection = rejection(&credentials);
            rejection.proxy = Some(problem);
            Decision::Reject(rejection)
        };
        let signature = credentials.proxy_signature;
        let is_proxied = match self.proxies.vouch(signature, facts.nonce) {
            Ok(is_proxied) => is_proxied,
            Err(problem) => return about_proxy(problem),
        };
        let decision = self.decide(&credentials, facts);
        let identity = match &decision {
            Decision::Accept(identity) => Some(identity),
            Decision::NeedHash(check) => Some(&check.identity),
            Decision::Reject(_) | Decision::Ask(_) => None,
        };
        let needs_proxy = self.needs_proxy || identity.is_some_and(|it| self.needs_proxy_for(it));
        if needs_proxy && !is_proxied && !matches!(decision, Decision::Reject(_)) {
            return about_proxy(ProxyProblem::Required);
        }
        decision
    }

    fn needs_proxy_for(&self, identity: &Identity) -> bool {
        let name = &*identity.user;
        let user = self.users.get(name).or_else(|| self.nkeys.get(name));
        user.is_some_and(|user| user.needs_proxy)
    }

    fn decide(&self, credentials: &Credentials<'_>, facts: &Facts<'_>) -> Decision {
        if !self.is_required() {
            return Decision::Accept(Identity::unrestricted(""));
        }
        if let Some(operator) = &self.operator {
            return match operator.log_in(credentials, facts) {
                Ok((_, Some(callout))) => Decision::Ask(Box::new(callout)),
                Ok((identity, None)) => Decision::Accept(identity),
                Err(reason) => Decision::Reject(Rejection {
                    who: rejection(credentials).who,
                    is_revoked: reason == REVOKED,
                    reason,
                    proxy: None,
                }),
            };
        }
        if let Some(callout) = self.callout_for(credentials) {
            return Decision::Ask(Box::new(callout));
        }
        self.judge(credentials, facts)
            .unwrap_or_else(|| Decision::Reject(rejection(credentials)))
    }

    /// The service that decides about these credentials, if one does.
    fn callout_for(&self, credentials: &Credentials<'_>) -> Option<Callout> {
        let block = self.callout.as_ref()?;
        let named = credentials.nkey.or(credentials.user);
        let known = match (credentials.nkey, credentials.user) {
            (Some(nkey), _) => self.nkeys.get(nkey),
            (None, Some(user)) => self.users.get(user),
            (None, None) => None,
        };
        if named.is_some_and(|named| block.users.iter().any(|user| user == named)) {
            return None;
        }
        let is_spared = !block.allowed_accounts.is_empty()
            && known.is_some_and(|user| {
                let account = &*user.identity.account;
                account != GLOBAL_ACCOUNT
                    && !block.allowed_accounts.iter().any(|one| one == account)
            });
        (!is_spared).then(|| Callout {
            account: block.account.as_str().into(),
            issuer: Some(block.issuer.clone()),
            curve_key: block.curve_key.clone(),
            allowed_accounts: Vec::new(),
        })
    }

    /// `None` means refused.
    fn judge(&self, credentials: &Credentials<'_>, facts: &Facts<'_>) -> Option<Decision> {
        if let (Some(nkey), false) = (credentials.nkey, self.nkeys.is_empty()) {
            let user = self
                .nkeys
                .get(nkey)
                .filter(|user| user.may_use(facts.connection_type))?;
            let signed = is_signed(nkey, credentials.signature?, facts.nonce);
            return signed.then(|| Decision::Accept(user.identity.clone()));
        }
        if self.maps_certificates && !self.users.is_empty() {
            let user = self.mapped_user(facts.tls_identities)?;
            return self.log_in(user, credentials, facts);
        }
        if credentials.are_empty() {
            if let Some(name) = &self.no_auth_user {
                let user = self.nkeys.get(name).or_else(|| self.users.get(name));
                let user = user.filter(|user| user.may_use(facts.connection_type))?;
                return Some(Decision::Accept(user.identity.clone()));
            }
            if self.only_system_users {
                return Some(Decision::Accept(Identity::unrestricted("")));
            }
        }
        if let (Some(name), false) = (credentials.user, self.users.is_empty()) {
            return self.log_in(self.users.get(name)?, credentials, facts);
        }
        if let Some(token) = &self.token {
            return compare(
                token,
                credentials.token.unwrap_or(""),
                Identity::unrestricted(""),
            );
        }
        let (name, password) = self.single.as_ref()?;
        let given = credentials.user.unwrap_or("");
        if !secret::equal(name, given) {
            return None;
        }
        compare(
            password,
            credentials.password.unwrap_or(""),
            Identity::unrestricted(name),
        )
    }

    /// The user that a certificate stands for. Its subject may be written in another order, or with
    /// blanks.
    fn mapped_user(&self, identities: &[String]) -> Option<&User> {
        let mut names = identities.iter();
        if let Some(user) = names.find_map(|name| self.users.get(name)) {
            return Some(user);
        }
        // The whole name, domain components included, comes before the one without.
        let mut subjects = identities.iter().filter(|name| name.contains('='));
        let subject = subjects.find_map(|name| DistinguishedName::read(name))?;
        let written = || {
            let users = self.users.iter();
            let named = users.filter(|(name, _)| name.contains('='));
            named.filter_map(|(name, user)| Some((DistinguishedName::read(name)?, user)))
        };
        let same = written().find(|(name, _)| *name == subject);
        let found = same.or_else(|| written().find(|(name, _)| name.has_same_attributes(&subject)));
        found.map(|(_, user)| user)
    }

    fn log_in(
        &self,
        user: &User,
        credentials: &Credentials<'_>,
        facts: &Facts<'_>,
    ) -> Option<Decision> {
        if !user.may_use(facts.connection_type) {
            return None;
        }
        compare(
            &user.password,
            credentials.password.unwrap_or(""),
            user.identity.clone(),
        )
    }
}

/// Compares at once, or says what must be hashed first.
fn compare(stored: &str, given: &str, identity: Identity) -> Option<Decision> {
    if secret::is_bcrypt(stored) {
        return Some(Decision::NeedHash(Box::new(HashCheck {
            password: given.to_owned(),
            hash: stored.to_owned(),
            identity,
        })));
    }
    secret::equal(stored, given).then_some(Decision::Accept(identity))
}

fn rejection(credentials: &Credentials<'_>) -> Rejection {
    let who = match (credentials.nkey, credentials.user, credentials.token) {
        (Some(nkey), ..) => format!("Nkey {nkey:?}"),
        (None, Some(user), _) => format!("User {user:?}"),
        (None, None, Some(_)) => "Token \"[REDACTED]\"".to_owned(),
        (None, None, None) => String::new(),
    };
    Rejection {
        who,
        ..Rejection::default()
    }
}
