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
const OUT_OF_STORAGE: &str = "io.nats.jetstream.advisory.v1.server_out_of_space";
const OUT_OF_STORAGE_SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE";
/// Length of an event's id.
const ID_LENGTH: usize = 22;
/// How often accounts with connections tell how many they have.
const CONNECTIONS_AGAIN_NS: u64 = 30 * Now::SECOND_NS;

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

    /// Tells again how many connections accounts have, while somebody may hear it.
    pub(crate) fn repeat_connections(&mut self, now: Now) {
        if !self.broker.is_watched() {
            self.system.connections_due_ns = None;
            return;
        }
        let next_ns = now.after_ns(CONNECTIONS_AGAIN_NS);
        let due_ns = *self.system.connections_due_ns.get_or_insert(next_ns);
        if due_ns > now.monotonic_ns {
            return;
        }
        self.system.connections_due_ns = Some(next_ns);
        for account in self.broker.accounts() {
            if account.connections > 0 {
                self.publish_connections(now, &account.name);
            }
        }
    }

    /// The disk of the store is full (spec jetstream/06-events).
    pub(crate) fn publish_out_of_storage(&mut self, now: Now) {
        let id = self.system.random.base62(ID_LENGTH);
        let identity = self.broker.identity();
        let value = json!({
            "type": OUT_OF_STORAGE,
            "id": id,
            "timestamp": time_text(now.wall_ns),
            "server": identity.server_name,
            "server_id": identity.server_id,
        });
        self.publish_system(now, AccountId::SYSTEM, OUT_OF_STORAGE_SUBJECT, &value);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_clock::Now;
    use millrace_core::{
        BrokerSettings, ConnectionFacts, ConnectionId, ConnectionKind, ServerIdentity,
    };

    use crate::node::Node;
    use crate::settings::NodeSettings;

    fn at(seconds: u64) -> Now {
        Now {
            monotonic_ns: seconds * Now::SECOND_NS,
            wall_ns: 1_700_000_000_000_000_000 + (seconds * Now::SECOND_NS) as i64,
        }
    }

    fn log_in(node: &mut Node, now: Now, user: &str, more: &str) -> ConnectionId {
        let facts = ConnectionFacts {
            peer_ip: None,
            peer_port: 0,
            kind: ConnectionKind::Client,
            tls: false,
            websocket: None,
        };
        let id = node.broker().accept(now, facts);
        let text =
            format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"p\"}}\r\n{more}");
        node.broker().receive(now, id, text.as_bytes());
        node.end_of_turn(now);
        id
    }

    /// Messages that wait for a client; they count as written.
    fn messages(node: &mut Node, id: ConnectionId) -> usize {
        let mut text = Vec::new();
        node.broker().outbound(id).take_into(&mut text);
        String::from_utf8_lossy(&text).matches("\r\nMSG ").count()
            + usize::from(text.starts_with(b"MSG "))
    }

    // proves: SYS-13
    #[test]
    fn accounts_tell_their_connections_at_each_change_and_every_half_minute() {
        let text = "accounts { SYS { users [{user: s, password: p}] }, A { users [{user: a, password: p}] } }
                    system_account: SYS";
        let load = |name: &str| Err(format!("no file {name}"));
        let parsed = millrace_config::parse(text, "x.conf", &load, &|_| None);
        let broker = BrokerSettings {
            options: Arc::new(parsed.expect("a configuration").0),
            identity: ServerIdentity::default(),
            random_seed: 1,
        };
        let settings = NodeSettings {
            broker,
            jetstream: None,
            wake: None,
        };
        let mut node = Node::new(at(1), settings);
        let watcher = log_in(
            &mut node,
            at(1),
            "s",
            "SUB $SYS.ACCOUNT.A.SERVER.CONNS 1\r\n",
        );
        node.tick(at(1));
        messages(&mut node, watcher);
        log_in(&mut node, at(2), "a", "");
        assert_eq!(messages(&mut node, watcher), 1, "at the change");
        for (seconds, expected) in [(20, 0), (31, 1), (32, 0), (62, 1)] {
            node.tick(at(seconds));
            node.end_of_turn(at(seconds));
            assert_eq!(messages(&mut node, watcher), expected, "after {seconds} s");
        }
        assert!(
            node.next_deadline()
                .is_some_and(|due_ns| due_ns <= at(92).monotonic_ns)
        );
    }
}
