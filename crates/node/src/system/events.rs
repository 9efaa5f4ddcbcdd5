//! Events that the system account hears: clients that come, go and are refused (spec core/13
//! §13.2).

use millrace_clock::Now;
use millrace_core::{AccountId, AccountInfo, ConnectionInfo, SessionEvent};
use serde_json::{Map, Value, json};

use crate::monitor::{client_type, time_text};
use crate::node::Node;

const CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
const DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";
const CONNECTIONS: &str = "io.nats.server.advisory.v1.account_connections";
/// Length of an event's id.
const ID_LENGTH: usize = 22;

impl Node {
    /// Publishes what happened to clients since the last call. Nothing is collected while no client
    /// of the system account is there to hear it.
    pub(crate) fn publish_session_events(&mut self, now: Now) {
        let mut events = std::mem::take(&mut self.system.events);
        self.broker.take_session_events(&mut events);
        for event in events.drain(..) {
            self.publish_session_event(now, &event);
        }
        self.system.events = events;
    }

    fn publish_session_event(&mut self, now: Now, event: &SessionEvent) {
        let (SessionEvent::Connected(info)
        | SessionEvent::Disconnected(info)
        | SessionEvent::Refused(info)) = event;
        let account = if info.account_name.is_empty() {
            self.broker.account_name(AccountId::GLOBAL).to_owned()
        } else {
            info.account_name.clone()
        };
        let client = client_value(info, &account);
        let (kind, subject) = match event {
            SessionEvent::Connected(_) => (CONNECT, format!("$SYS.ACCOUNT.{account}.CONNECT")),
            SessionEvent::Disconnected(_) => {
                (DISCONNECT, format!("$SYS.ACCOUNT.{account}.DISCONNECT"))
            }
            SessionEvent::Refused(_) => {
                let id = &self.broker.identity().server_id;
                (DISCONNECT, format!("$SYS.SERVER.{id}.CLIENT.AUTH.ERR"))
            }
        };
        if !matches!(event, SessionEvent::Refused(_)) {
            self.publish_connections(now, &account);
        }
        let mut value = self.event_head(now, kind);
        value["client"] = client;
        if kind == DISCONNECT {
            // Both are counted from the client's side.
            value["sent"] = json!({"msgs": info.in_msgs, "bytes": info.in_bytes});
            value["received"] = json!({"msgs": info.out_msgs, "bytes": info.out_bytes});
            let reason = info.stopped.map(|(_, reason)| reason.text());
            value["reason"] = json!(reason.unwrap_or_default());
        }
        self.publish_system(now, AccountId::SYSTEM, subject.as_bytes(), &value);
    }

    /// `type`, `id`, `timestamp` and `server`.
    fn event_head(&mut self, now: Now, kind: &str) -> Value {
        let id = self.system.random.base62(ID_LENGTH);
        json!({
            "type": kind,
            "id": id,
            "timestamp": time_text(now.wall_ns),
            "server": self.server_value(now),
        })
    }

    fn publish_connections(&mut self, now: Now, account: &str) {
        if account == self.broker.account_name(AccountId::GLOBAL) {
            return;
        }
        let Some(value) = self.connections_event(now, account) else {
            return;
        };
        for subject in [
            format!("$SYS.SERVER.ACCOUNT.{account}.CONNS"),
            format!("$SYS.ACCOUNT.{account}.SERVER.CONNS"),
        ] {
            self.publish_system(now, AccountId::SYSTEM, subject.as_bytes(), &value);
        }
    }

    /// How many connections an account has, as an event; `None` for unknown accounts.
    pub(super) fn connections_event(&mut self, now: Now, account: &str) -> Option<Value> {
        let accounts = self.broker.accounts();
        let info = accounts.iter().find(|one| one.name == account)?;
        let mut value = self.event_head(now, CONNECTIONS);
        if let (Value::Object(head), Value::Object(body)) = (&mut value, account_statistics(info)) {
            head.extend(body);
        }
        Some(value)
    }
}

/// The numbers of an account in `/accstatz` and in events.
pub(crate) fn account_statistics(info: &AccountInfo) -> Value {
    let none = json!({"msgs": 0, "bytes": 0});
    let flow = |messages: u64, bytes: u64| {
        json!({
            "msgs": messages, "bytes": bytes,
            "gateways": none, "routes": none, "leafs": none,
        })
    };
    json!({
        "acc": info.name,
        "name": info.name,
        "conns": info.connections,
        "leafnodes": 0,
        "total_conns": info.connections,
        "num_subscriptions": info.subscriptions,
        "sent": flow(info.sent_msgs, info.sent_bytes),
        "received": flow(info.received_msgs, info.received_bytes),
        "slow_consumers": info.slow_consumers,
    })
}

fn client_value(info: &ConnectionInfo, account: &str) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("start", json!(time_text(info.started.wall_ns)));
    let host = info.ip.map(|ip| ip.to_string()).unwrap_or_default();
    put("host", json!(host));
    put("id", json!(info.id.0));
    put("acc", json!(account));
    for (name, text) in [
        ("user", &info.authorized_user),
        ("name", &info.name),
        ("lang", &info.lang),
        ("ver", &info.version),
    ] {
        if !text.is_empty() {
            put(name, json!(text));
        }
    }
    if let Some((at, _)) = info.stopped {
        if info.round_trip_ns > 0 {
            put("rtt", json!(info.round_trip_ns));
        }
        put("stop", json!(time_text(at.wall_ns)));
    }
    put("name_tag", json!(account));
    put("kind", json!("Client"));
    put("client_type", json!(client_type(info.kind)));
    Value::Object(fields)
}
