//! `Nats-Request-Info`: what the exporter of a service learns about who asks (spec core/10 §10.3).

use serde::Serialize;

use crate::broker::Broker;
use crate::effects::ConnectionKind;
use crate::ids::AccountId;

/// The header's name.
pub(crate) const REQUEST_INFO: &[u8] = b"Nats-Request-Info";

/// A client as other accounts are told of it. Empty fields are left out, as in the reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RequestInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    start: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    #[serde(rename = "acc", skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(rename = "svc", skip_serializing_if = "String::is_empty")]
    service: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "lang", skip_serializing_if = "String::is_empty")]
    language: String,
    #[serde(rename = "ver", skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(rename = "rtt", skip_serializing_if = "is_zero")]
    pub(crate) round_trip_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    jwt: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    client_type: &'static str,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl RequestInfo {
    /// The text of the header.
    pub(crate) fn json(&self) -> Vec<u8> {
        // Texts and numbers always can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Says on behalf of which account a request goes on.
    pub(super) fn set_service(&mut self, account: &str) {
        account.clone_into(&mut self.service);
    }
}

impl Broker {
    /// Who published: the client at `slot`, or the server in the name of an account.
    pub(crate) fn request_info(
        &self,
        slot: Option<u32>,
        account: AccountId,
        is_shared: bool,
    ) -> RequestInfo {
        let mut info = RequestInfo {
            account: self.account_name(account).to_owned(),
            ..RequestInfo::default()
        };
        let session = slot.and_then(|slot| self.sessions.get(slot as usize));
        let Some(session) = session else {
            return info;
        };
        if let Some(own) = session.account {
            self.account_name(own).clone_into(&mut info.account);
        }
        info.round_trip_ns = session.ping.round_trip_ns;
        if !is_shared {
            return info;
        }
        self.add_server(&mut info);
        info.start = millrace_clock::rfc3339::format(session.started.wall_ns);
        info.host = session
            .facts
            .peer_ip
            .map(|ip| ip.to_string())
            .unwrap_or_default();
        info.id = session.id.0;
        info.user = session.claimed_user();
        info.kind = "Client";
        info.client_type = match session.facts.kind {
            ConnectionKind::Client | ConnectionKind::InProcess => "nats",
            ConnectionKind::Websocket => "websocket",
        };
        if let Some(options) = session.client.options.as_deref() {
            options.name.clone_into(&mut info.name);
            options.lang.clone_into(&mut info.language);
            options.version.clone_into(&mut info.version);
            options.jwt.clone_into(&mut info.jwt);
        }
        info
    }

    pub(super) fn add_server(&self, info: &mut RequestInfo) {
        self.identity.server_name.clone_into(&mut info.server);
        self.identity.cluster.clone_into(&mut info.cluster);
    }
}
