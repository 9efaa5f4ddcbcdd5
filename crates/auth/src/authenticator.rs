//! Decides who a client is from the credentials in its CONNECT.

use std::sync::Arc;

use millrace_config::Options;
use millrace_config::options::ConnectionType;

use crate::Permissions;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// How the log names the client: `User "x"`, `Nkey "x"`, `Token "[REDACTED]"`, or empty.
    pub who: String,
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
}

/// The rules of one configuration, made once and shared by all connections.
#[derive(Debug, Default)]
pub struct Authenticator {
    required: bool,
}

impl Authenticator {
    /// Compiles the rules of a configuration.
    #[must_use]
    pub fn new(_options: &Options) -> Self {
        Self::default()
    }

    /// Whether any client has to say who it is (INFO `auth_required`, apart from `no_auth_user`).
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether INFO must say `auth_required`: credentials are needed and no `no_auth_user` is set.
    #[must_use]
    pub fn announces_required(&self) -> bool {
        self.required
    }

    /// Whether INFO must carry a nonce.
    #[must_use]
    pub fn needs_nonce(&self) -> bool {
        false
    }

    /// Judges a CONNECT.
    #[must_use]
    pub fn start(&self, _credentials: &Credentials<'_>, _facts: &Facts<'_>) -> Decision {
        Decision::Accept(Identity {
            account: "$G".into(),
            user: "".into(),
            permissions: None,
        })
    }
}
