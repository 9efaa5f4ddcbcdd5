//! What depends on the door a connection came in by: rules, TLS, timers, the address in INFO.

use millrace_auth::Authenticator;
use millrace_config::Options;
use millrace_config::options::TlsOptions;

use crate::broker::Broker;
use crate::effects::ConnectionKind;

/// Rules of WebSocket clients where they are not those of all; `None` if they are.
///
/// With rules of their own nothing but these and the users lists count, as in the reference.
pub(crate) fn websocket_rules(options: &Options) -> Option<Authenticator> {
    let websocket = &options.websocket;
    let maps = |tls: &Option<TlsOptions>| tls.as_ref().is_some_and(|tls| tls.verify_and_map);
    let differs = websocket.overrides_authorization() || maps(&websocket.tls) != maps(&options.tls);
    if !websocket.is_on() || !differs || options.operator.is_on() {
        return None;
    }
    let mut own = options.clone();
    own.tls.clone_from(&websocket.tls);
    if websocket.overrides_authorization() {
        own.authorization.user.clone_from(&websocket.user);
        own.authorization.password.clone_from(&websocket.password);
        own.authorization.token.clone_from(&websocket.token);
        own.no_auth_user.clone_from(&websocket.no_auth_user);
    }
    Some(Authenticator::new(&own))
}

/// The rules that hold at a door.
pub(crate) const fn rules_of<'a>(
    kind: ConnectionKind,
    all: &'a Authenticator,
    websocket: Option<&'a Authenticator>,
) -> &'a Authenticator {
    match (kind, websocket) {
        (ConnectionKind::Websocket, Some(rules)) => rules,
        _ => all,
    }
}

impl Broker {
    /// The door of a session; that of clients if there is no such session.
    pub(crate) fn kind_of(&self, slot: u32) -> ConnectionKind {
        self.sessions
            .get(slot as usize)
            .map_or(ConnectionKind::Client, |session| session.facts.kind)
    }

    /// The rules that hold at a door.
    pub(crate) const fn rules(&self, kind: ConnectionKind) -> &Authenticator {
        rules_of(
            kind,
            &self.authenticator,
            self.websocket_authenticator.as_ref(),
        )
    }

    /// TLS of a door, and whether clients may do without.
    pub(crate) fn tls_of(&self, kind: ConnectionKind) -> (Option<&TlsOptions>, bool) {
        match kind {
            ConnectionKind::Websocket => (self.options.websocket.tls.as_ref(), false),
            // Nothing leaves the process.
            ConnectionKind::InProcess => (None, true),
            _ => (self.options.tls.as_ref(), self.options.allow_non_tls),
        }
    }

    /// Time between PINGs, in nanoseconds.
    pub(crate) fn ping_interval_ns(&self, kind: ConnectionKind) -> u64 {
        let own = match kind {
            ConnectionKind::Websocket => self.options.websocket.ping_interval_ns,
            _ => None,
        };
        own.unwrap_or(self.options.client.ping_interval_ns)
    }

    /// Time from accept to a valid CONNECT, in nanoseconds.
    pub(crate) fn login_timeout_ns(&self, kind: ConnectionKind) -> u64 {
        let own = match kind {
            ConnectionKind::Websocket => self.options.websocket.authorization_timeout_ns,
            _ => None,
        };
        own.unwrap_or(self.options.authorization.timeout_ns)
    }
}
