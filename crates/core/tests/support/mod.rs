//! A broker without sockets: named connections, typed-in bytes, collected answers.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_clock::Now;
use millrace_config::Options;
use millrace_core::{
    Broker, BrokerEffect, BrokerSettings, CloseReason, ConnectionFacts, ConnectionId,
    ConnectionKind, ServerIdentity,
};

pub struct Bench {
    pub broker: Broker,
    pub now: Now,
    pub connections: BTreeMap<String, ConnectionId>,
    pub closed: BTreeMap<ConnectionId, CloseReason>,
    pub effects: Vec<BrokerEffect>,
    pushed_back: BTreeMap<String, Vec<u8>>,
}

impl Bench {
    pub fn new(options: Options) -> Self {
        let settings = BrokerSettings {
            options: Arc::new(options.clone()),
            identity: ServerIdentity {
                server_id: "NID".into(),
                server_name: options.server_name.clone().unwrap_or_else(|| "NID".into()),
                xkey: "X".into(),
                host: "127.0.0.1".into(),
                port: 4222,
                ..ServerIdentity::default()
            },
            random_seed: 1,
        };
        let now = Now {
            monotonic_ns: 1_000_000_000,
            wall_ns: 1_700_000_000_000_000_000,
        };
        Self {
            broker: Broker::new(now, settings),
            now,
            connections: BTreeMap::new(),
            closed: BTreeMap::new(),
            effects: Vec::new(),
            pushed_back: BTreeMap::new(),
        }
    }

    pub fn open(&mut self, name: &str) -> ConnectionId {
        let facts = ConnectionFacts {
            peer_ip: Some("127.0.0.1".parse().expect("an address")),
            peer_port: 50_000,
            kind: ConnectionKind::Client,
            tls: false,
            websocket: None,
        };
        let id = self.broker.accept(self.now, facts);
        self.connections.insert(name.to_owned(), id);
        self.settle();
        id
    }

    pub fn id(&self, name: &str) -> ConnectionId {
        self.connections[name]
    }

    pub fn send(&mut self, name: &str, bytes: &[u8]) {
        let id = self.id(name);
        if !self.closed.contains_key(&id) {
            assert_eq!(self.broker.receive(self.now, id, bytes), bytes.len());
            self.settle();
        }
    }

    /// Plays the host: passwords are checked at once, closed sockets are noted.
    pub fn settle(&mut self) {
        loop {
            let mut effects = Vec::new();
            self.broker.take_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in &effects {
                match effect {
                    BrokerEffect::CloseConnection { id, reason, .. } => {
                        self.closed.insert(*id, *reason);
                    }
                    BrokerEffect::HashPassword { id, check } => {
                        self.broker.password_checked(self.now, *id, check.verify());
                    }
                    _ => {}
                }
            }
            self.effects.append(&mut effects);
        }
    }

    /// What was written to a connection since the last call, and whether it is closed.
    pub fn take_bytes(&mut self, name: &str) -> (Vec<u8>, bool) {
        let id = self.id(name);
        let mut all = self.pushed_back.remove(name).unwrap_or_default();
        self.broker.outbound(id).take_into(&mut all);
        (all, self.closed.contains_key(&id))
    }

    /// Drops the first line that waits for a connection.
    pub fn drop_line(&mut self, name: &str) {
        let (bytes, _) = self.take_bytes(name);
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |at| at + 1);
        self.pushed_back
            .insert(name.to_owned(), bytes[end..].to_vec());
    }

    /// As [`Self::take_bytes`], as text; `<EOF>` at the end if the connection is closed.
    pub fn take(&mut self, name: &str) -> String {
        let (bytes, is_closed) = self.take_bytes(name);
        let end = if is_closed { "<EOF>" } else { "" };
        format!("{}{end}", String::from_utf8_lossy(&bytes))
    }

    pub fn close(&mut self, name: &str) {
        let id = self.id(name);
        self.broker
            .closed_by_peer(self.now, id, CloseReason::ClientClosed);
        self.settle();
    }

    pub fn exchange(&mut self, name: &str, bytes: &str) -> String {
        self.send(name, bytes.as_bytes());
        self.take(name)
    }

    pub fn pass_ms(&mut self, milliseconds: u64) {
        self.now.monotonic_ns += milliseconds * 1_000_000;
        self.now.wall_ns += milliseconds as i64 * 1_000_000;
        self.broker.tick(self.now);
        self.settle();
    }
}
