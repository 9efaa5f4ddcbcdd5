//! What INFO says to one client: at accept, after its first PING, and when something changes.

use data_encoding::BASE64URL_NOPAD;
use millrace_wire::encode;
use millrace_wire::info::ServerInfo;
use sha2::{Digest, Sha256};

use crate::broker::Broker;
use crate::effects::ConnectionKind;
use crate::ids::AccountId;
use crate::limits::{
    API_LEVEL, COMPATIBLE_VERSION, IMPLEMENTATION, NONCE_BYTES, PROTOCOL_LEVEL, RUNTIME,
};

impl Broker {
    /// The INFO that greets a connection.
    pub(crate) fn send_info(&mut self, slot: u32) {
        if let Some(mut info) = self.server_info(slot) {
            let kind = self.kind_of(slot);
            info.auth_required = self.rules(kind).announces_required();
            if kind == ConnectionKind::Client && self.options.client.proxy_protocol {
                // Whom a proxy speaks for is not known yet.
                info.client_ip.clear();
            }
            self.queue_info(slot, &info);
        }
    }

    /// The INFO that follows the PONG to a client's first PING.
    pub(crate) fn send_connect_info(&mut self, slot: u32) {
        let Some(mut info) = self.server_info(slot) else {
            return;
        };
        info.connect_info = true;
        if let Some(account) = self.sessions.get(slot as usize).and_then(|s| s.account) {
            info.remote_account = self.account_name(account).to_owned();
            info.acc_is_sys = account == AccountId::SYSTEM;
        }
        self.queue_info(slot, &info);
    }

    /// Tells a client that can take it that it should go elsewhere.
    pub(crate) fn send_lame_duck_info(&mut self, slot: u32) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        if session.client.protocol < 1 || !session.client.first_ping_answered {
            return;
        }
        let Some(mut info) = self.server_info(slot) else {
            return;
        };
        info.ldm = true;
        self.queue_info(slot, &info);
    }

    fn queue_info(&mut self, slot: u32, info: &ServerInfo) {
        let mut line = Vec::new();
        encode::info(&mut line, &info.to_json());
        self.send(slot, &line);
    }

    fn server_info(&self, slot: u32) -> Option<ServerInfo> {
        let session = self.sessions.get(slot as usize)?;
        let identity = &self.identity;
        let kind = session.facts.kind;
        let (host, port) = self.advertised(kind);
        let (tls, may_be_plain) = self.tls_of(kind);
        let is_websocket = kind == ConnectionKind::Websocket;
        Some(ServerInfo {
            server_id: identity.server_id.clone(),
            server_name: identity.server_name.clone(),
            version: COMPATIBLE_VERSION.to_owned(),
            proto: PROTOCOL_LEVEL,
            git_commit: identity.git_commit.clone(),
            go: RUNTIME.to_owned(),
            host,
            port: i32::from(port),
            headers: !self.options.client.no_header_support,
            auth_required: self.rules(kind).is_required(),
            tls_required: tls.is_some() && !may_be_plain,
            tls_verify: tls.is_some_and(|tls| tls.verify),
            tls_available: tls.is_some() && (may_be_plain || is_websocket),
            max_payload: i32::try_from(session.max_payload).unwrap_or(i32::MAX),
            jetstream: identity.jetstream,
            client_id: session.id.0,
            client_ip: session
                .facts
                .shown_ip()
                .map(|ip| ip.to_string())
                .unwrap_or_default(),
            nonce: String::from_utf8_lossy(&session.nonce).into_owned(),
            cluster: identity.cluster.clone(),
            domain: identity.domain.clone(),
            api_lvl: API_LEVEL,
            xkey: identity.xkey.clone(),
            implementation: IMPLEMENTATION.to_owned(),
            ..ServerInfo::default()
        })
    }

    /// Where the clients of a door are told to connect.
    fn advertised(&self, kind: ConnectionKind) -> (String, u16) {
        let identity = &self.identity;
        if let (ConnectionKind::Websocket, Some(websocket)) = (kind, &identity.websocket) {
            return websocket.clone();
        }
        self.client_place()
    }

    /// Where clients are told to connect: `client_advertise`, its port optional, or the listener.
    #[must_use]
    pub fn client_place(&self) -> (String, u16) {
        let identity = &self.identity;
        let Some(advertise) = &self.options.client.advertise else {
            return (identity.host.clone(), identity.port);
        };
        let split = advertise.rsplit_once(':');
        let with_port = split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match with_port {
            // A bare IPv6 address also ends in a colon and digits.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host.trim_matches(['[', ']']).to_owned(), port)
            }
            _ => (advertise.trim_matches(['[', ']']).to_owned(), identity.port),
        }
    }

    /// A fresh nonce. It follows from the secret seed, so that nobody outside can foresee it and
    /// the simulator can repeat it.
    pub(crate) fn make_nonce(&mut self) -> Box<[u8]> {
        self.nonces_made += 1;
        let mut hasher = Sha256::new();
        hasher.update(self.identity.nonce_seed);
        hasher.update(self.nonces_made.to_be_bytes());
        let digest = hasher.finalize();
        BASE64URL_NOPAD
            .encode(&digest[..NONCE_BYTES])
            .into_bytes()
            .into_boxed_slice()
    }
}
