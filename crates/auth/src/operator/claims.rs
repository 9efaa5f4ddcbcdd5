//! What operators, accounts and users claim in their tokens (spec core/11 §11.1). Fields that the
//! server does not act on are not read.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::sharing::{ExportClaims, ImportClaims, MappingClaims, TraceClaims};
use super::token::{Claims, null_is_default};
use millrace_config::nkey::KeyKind;

/// An operator: whose accounts this server serves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OperatorClaims {
    /// Further keys that may sign accounts.
    #[serde(deserialize_with = "null_is_default")]
    pub signing_keys: Vec<String>,
    /// Where account tokens can be asked for.
    pub account_server_url: String,
    /// Public key of the system account.
    pub system_account: String,
    /// The operator's own key may not sign accounts.
    pub strict_signing_key_usage: bool,
    /// The oldest server version that may be used.
    pub assert_server_version: String,
}

impl Claims for OperatorClaims {
    const TYPE: &'static str = "operator";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Operator];
    const SUBJECT: Option<KeyKind> = Some(KeyKind::Operator);
}

/// Subjects allowed and denied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SubjectClaims {
    #[serde(deserialize_with = "null_is_default")]
    pub allow: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub deny: Vec<String>,
}

/// Allowance to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ResponseClaims {
    #[serde(rename = "max")]
    pub max_messages: i64,
    #[serde(rename = "ttl")]
    pub expires_ns: i64,
}

/// What may be published and subscribed to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PermissionClaims {
    #[serde(rename = "pub", deserialize_with = "null_is_default")]
    pub publish: SubjectClaims,
    #[serde(rename = "sub", deserialize_with = "null_is_default")]
    pub subscribe: SubjectClaims,
    #[serde(rename = "resp")]
    pub responses: Option<ResponseClaims>,
}

/// Limits of an account; -1 means none, and what is left out is 0.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccountLimitClaims {
    pub subs: i64,
    pub payload: i64,
    pub conn: i64,
    pub leaf: i64,
    pub disallow_bearer: bool,
    #[serde(flatten)]
    pub jetstream: JetStreamLimitClaims,
    #[serde(deserialize_with = "null_is_default")]
    pub tiered_limits: BTreeMap<String, JetStreamLimitClaims>,
}

/// JetStream limits of an account or of one of its tiers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JetStreamLimitClaims {
    pub mem_storage: i64,
    pub disk_storage: i64,
    pub streams: i64,
    pub consumer: i64,
    pub max_ack_pending: i64,
    pub mem_max_stream_bytes: i64,
    pub disk_max_stream_bytes: i64,
    pub max_bytes_required: bool,
}

/// A key that may sign users of an account.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum SigningKey {
    /// Any user.
    Plain(String),
    /// Users that get what the template says and nothing of their own.
    Scoped {
        key: String,
        #[serde(default)]
        template: Box<UserLimitClaims>,
    },
}

impl SigningKey {
    /// The public key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Plain(key) | Self::Scoped { key, .. } => key,
        }
    }
}

/// An account.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccountClaims {
    #[serde(deserialize_with = "null_is_default")]
    pub imports: Vec<ImportClaims>,
    #[serde(deserialize_with = "null_is_default")]
    pub exports: Vec<ExportClaims>,
    #[serde(deserialize_with = "null_is_default")]
    pub mappings: BTreeMap<String, Vec<MappingClaims>>,
    #[serde(deserialize_with = "null_is_default")]
    pub trace: TraceClaims,
    #[serde(deserialize_with = "null_is_default")]
    pub authorization: AuthorizationClaims,
    #[serde(deserialize_with = "null_is_default")]
    pub limits: AccountLimitClaims,
    #[serde(deserialize_with = "null_is_default")]
    pub signing_keys: Vec<SigningKey>,
    /// User key (or `*`) to the second up to which its tokens are revoked.
    #[serde(deserialize_with = "null_is_default")]
    pub revocations: BTreeMap<String, i64>,
    #[serde(deserialize_with = "null_is_default")]
    pub default_permissions: PermissionClaims,
    #[serde(deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
}

/// Who decides about the users of an account; nobody asks without `auth_users`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuthorizationClaims {
    /// Users that log in by their tokens alone: the service.
    #[serde(deserialize_with = "null_is_default")]
    pub auth_users: Vec<String>,
    /// Accounts that users may be placed in; `*` for all.
    #[serde(deserialize_with = "null_is_default")]
    pub allowed_accounts: Vec<String>,
    /// The service's public curve key.
    pub xkey: String,
}

impl Claims for AccountClaims {
    const TYPE: &'static str = "account";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Operator, KeyKind::Account];
    const SUBJECT: Option<KeyKind> = Some(KeyKind::Account);
}

/// A part of the day in which a user may be connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TimeRange {
    /// `HH:MM:SS`.
    pub start: String,
    /// `HH:MM:SS`; before `start` it is on the next day.
    pub end: String,
}

/// What a user may do, or what a scoped key's template grants. Limits that are left out are 0.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UserLimitClaims {
    #[serde(flatten)]
    pub permissions: PermissionClaims,
    /// Networks (CIDR) the user may come from; empty means any.
    #[serde(deserialize_with = "null_is_default")]
    pub src: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub times: Vec<TimeRange>,
    /// IANA name; empty means the server's zone.
    pub times_location: String,
    pub subs: i64,
    pub payload: i64,
    /// The token alone is enough, without a signature over the nonce.
    pub bearer_token: bool,
    #[serde(deserialize_with = "null_is_default")]
    pub allowed_connection_types: Vec<String>,
}

impl UserLimitClaims {
    /// Whether nothing is said, as a scoped key demands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.permissions == PermissionClaims::default()
            && self.src.is_empty()
            && self.times.is_empty()
            && self.times_location.is_empty()
            && self.subs == 0
            && self.payload == 0
            && !self.bearer_token
            && self.allowed_connection_types.is_empty()
    }
}

/// A user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UserClaims {
    #[serde(flatten)]
    pub limits: UserLimitClaims,
    /// The account, when a signing key and not the account's own has signed.
    pub issuer_account: String,
    #[serde(deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
}

impl Claims for UserClaims {
    const TYPE: &'static str = "user";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account];
    const SUBJECT: Option<KeyKind> = Some(KeyKind::User);
}
