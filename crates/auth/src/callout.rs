//! A service that is asked who clients are (spec core/11 §11.8): what it is told, and what its answer
//! is worth. Sending and waiting are the broker's.

use std::sync::Arc;

use millrace_config::nkey::KeyKind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authenticator::{Facts, Identity};
use crate::operator::OperatorMode;
use crate::operator::claims::{AuthorizationClaims, UserClaims};
use crate::operator::token::{Claims, Token};
use crate::server_keys::{SEAL_NONCE_BYTES, ServerKeys, public_text};

/// Where the service listens.
pub const CALLOUT_SUBJECT: &str = "$SYS.REQ.USER.AUTH";
/// The header that says to which key an answer can be sealed.
const CURVE_KEY_HEADER: &str = "Nats-Server-Xkey";
const AUDIENCE: &str = "nats-authorization-request";
/// How every token begins; anything else is sealed.
const TOKEN_START: &[u8] = b"eyJ";
const SECOND_NS: i64 = 1_000_000_000;

/// Whom to ask, and what holds for the answer.
#[derive(Clone, Debug)]
pub struct Callout {
    /// The account in which the service listens.
    pub account: Arc<str>,
    /// The account key that must have signed users, in configuration mode.
    pub issuer: Option<String>,
    /// The service's curve key, if requests are sealed.
    pub curve_key: Option<String>,
    /// Operator mode: further accounts that users may be of; `*` for all.
    pub allowed_accounts: Vec<String>,
}

/// A question on its way, and what its answer must say.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whom it was put to.
    pub callout: Callout,
    /// The public user key that the answer must name.
    pub user_key: String,
}

/// Secrets for one question, used once.
#[derive(Clone, Copy)]
pub struct QuestionSecrets {
    /// The user key is made of these.
    pub user_seed: [u8; 32],
    /// For the seal.
    pub nonce: [u8; SEAL_NONCE_BYTES],
}

/// A request: header block (empty for none) and payload.
pub type Request = (Vec<u8>, Vec<u8>);

impl Question {
    /// Puts the question about a client. `about` has `server_id`, `client_info`, `connect_opts` and, for
    /// clients with TLS, `client_tls`. `None` if it cannot be sealed.
    #[must_use]
    pub fn ask(
        callout: Callout,
        keys: &ServerKeys,
        secrets: QuestionSecrets,
        mut about: Value,
        expires_s: i64,
    ) -> Option<(Self, Request)> {
        let user_key = public_text(KeyKind::User, &secrets.user_seed);
        about["user_nkey"] = json!(user_key);
        about["type"] = json!("authorization_request");
        about["version"] = json!(2);
        if callout.curve_key.is_some() {
            about["server_id"]["xkey"] = json!(keys.curve_id());
        }
        let subject = callout.issuer.as_deref().unwrap_or(&callout.account);
        let token = keys.sign(json!({
            "aud": AUDIENCE,
            "exp": expires_s,
            "sub": subject,
            "nats": about,
        }));
        let request = match &callout.curve_key {
            None => (Vec::new(), token.into_bytes()),
            Some(key) => {
                let header = format!(
                    "NATS/1.0\r\n{CURVE_KEY_HEADER}: {}\r\n\r\n",
                    keys.curve_id()
                );
                let sealed = keys.seal(key, secrets.nonce, token.as_bytes())?;
                (header.into_bytes(), sealed)
            }
        };
        Some((Self { callout, user_key }, request))
    }

    /// Who the client is, if the answer is genuine and says so.
    ///
    /// # Errors
    /// Why the client is refused, for the log.
    pub fn answered(
        &self,
        keys: &ServerKeys,
        operator: Option<&OperatorMode>,
        answer: &[u8],
        facts: &Facts<'_>,
    ) -> Result<(Identity, String), String> {
        let account = &self.callout.account;
        if answer.is_empty() {
            return Err(format!(
                "auth callout violation: \"no reason supplied\" on account {account:?}"
            ));
        }
        let opened = match &self.callout.curve_key {
            Some(key) if !answer.starts_with(TOKEN_START) => {
                Some(keys.open(key, answer).ok_or_else(|| {
                    format!("error decrypting auth callout response on account {account:?}")
                })?)
            }
            _ => None,
        };
        let is_sealed = opened.is_some();
        let text = String::from_utf8_lossy(opened.as_deref().unwrap_or(answer)).into_owned();
        let response = Token::<ResponseClaims>::decode(&text).map_err(|error| error.to_string())?;
        if response.subject != self.user_key {
            return Err("auth callout response is not for expected user".to_owned());
        }
        if response.audience != keys.server_id() {
            return Err("auth callout response is not for server".to_owned());
        }
        if !response.claims.error.is_empty() {
            let error = &response.claims.error;
            return Err(format!("auth callout service returned an error: {error}"));
        }
        if let Some(operator) = operator.filter(|_| !is_sealed) {
            let named = &response.claims.issuer_account;
            let issuer = if named.is_empty() {
                &response.issuer
            } else {
                named
            };
            if !operator.is_key_of(account, issuer) {
                return Err("auth callout signing key is unknown".to_owned());
            }
        }
        let user = Token::<UserClaims>::decode(&response.claims.jwt);
        let user = user.map_err(|error| error.to_string())?;
        self.check_user(&user, operator, facts)
    }

    fn check_user(
        &self,
        user: &Token<UserClaims>,
        operator: Option<&OperatorMode>,
        facts: &Facts<'_>,
    ) -> Result<(Identity, String), String> {
        let (account, key) = (&self.callout.account, &self.user_key);
        if user.subject != *key {
            let found = &user.subject;
            return Err(format!(
                "expected authorized user of {key:?} but got {found:?} on account {account:?}"
            ));
        }
        user.check_times(facts.now_wall_ns.div_euclid(SECOND_NS))
            .map_err(|error| format!("error validating user JWT: {error}"))?;
        let named = &user.claims.issuer_account;
        let identity = match (operator, &self.callout.issuer) {
            (Some(operator), _) => {
                let issuer = if named.is_empty() {
                    &user.issuer
                } else {
                    named
                };
                let is_allowed = issuer.as_str() == &**account
                    || self
                        .callout
                        .allowed_accounts
                        .iter()
                        .any(|allowed| allowed == "*" || allowed == issuer);
                if !is_allowed {
                    return Err(format!(
                        "account {issuer:?} not permitted as valid account option for auth callout for account {account:?}"
                    ));
                }
                operator.admit(user, issuer, facts)?
            }
            (None, Some(expected)) => {
                if !named.is_empty() {
                    return Err(format!(
                        "error non operator mode account {account:?}: attempted to use issuer_account"
                    ));
                }
                if user.issuer != *expected {
                    let found = &user.issuer;
                    return Err(format!(
                        "wrong issuer for auth callout response on account {account:?}, expected {expected:?} got {found:?}"
                    ));
                }
                crate::operator::admit_placed(user, &user.audience, facts)?
            }
            (None, None) => return Err("no issuer is known".to_owned()),
        };
        let mut identity = identity;
        if identity.account == *account {
            // Who is not the service must not speak to it as the server does.
            let rules = identity.permissions.as_deref().cloned().unwrap_or_default();
            identity.permissions = Some(Arc::new(rules.without_publish(CALLOUT_SUBJECT)));
        }
        Ok((identity, user.name.clone()))
    }
}

impl Callout {
    /// The callout that an account's token speaks of, for users that are not exempt.
    pub(crate) fn of_account(
        account: &str,
        claims: &AuthorizationClaims,
        user: &str,
    ) -> Option<Self> {
        let is_asked =
            !claims.auth_users.is_empty() && !claims.auth_users.iter().any(|one| one == user);
        is_asked.then(|| Self {
            account: account.into(),
            issuer: None,
            curve_key: Some(claims.xkey.clone()).filter(|key| !key.is_empty()),
            allowed_accounts: claims.allowed_accounts.clone(),
        })
    }
}

/// What the service answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ResponseClaims {
    jwt: String,
    error: String,
    issuer_account: String,
}

impl Claims for ResponseClaims {
    const TYPE: &'static str = "authorization_response";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account];
    const SUBJECT: Option<KeyKind> = Some(KeyKind::User);
}
