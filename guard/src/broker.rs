//! Core publishes through the broker: bytes of a publisher in, bytes for its receivers out. The
//! match cache is warm in all but the last.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use millrace_clock::Now;
use millrace_config::Options;
use millrace_core::{
    Broker, BrokerSettings, ConnectionFacts, ConnectionId, ConnectionKind, EndpointId,
    ServerIdentity,
};

const NOW: Now = Now {
    monotonic_ns: 1_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
};
/// Messages in one read.
const READ_MESSAGES: u64 = 500;
const PAYLOAD: &str = "0123456789abcdef";

struct World {
    broker: Broker,
    publisher: ConnectionId,
    subscribers: Vec<ConnectionId>,
}

impl World {
    /// A publisher and `receivers` subscribers, each with the line `subscription`.
    fn new(receivers: usize, subscription: &str) -> Self {
        let settings = BrokerSettings {
            options: Arc::new(Options::default()),
            identity: ServerIdentity::default(),
            random_seed: 1,
        };
        let mut broker = Broker::new(NOW, settings);
        let subscribers = (0..receivers)
            .map(|_| open(&mut broker, subscription))
            .collect();
        let publisher = open(&mut broker, "PING\r\n");
        Self {
            broker,
            publisher,
            subscribers,
        }
    }

    fn drain(&mut self) {
        for id in &self.subscribers {
            let outbound = self.broker.outbound(*id);
            black_box(&*outbound);
            outbound.consumed(outbound.pending());
        }
    }

    /// Publishes `count` messages, the same read again and again.
    fn publish(&mut self, count: u64, subjects: u64) {
        let input = read(0, subjects);
        for _ in 0..count / READ_MESSAGES {
            self.receive(&input);
        }
    }

    fn receive(&mut self, input: &str) {
        self.broker
            .receive(NOW, self.publisher, black_box(input.as_bytes()));
        self.drain();
    }
}

/// A read full of messages on as many subjects, numbered from `first`.
fn read(first: u64, subjects: u64) -> String {
    let mut input = String::new();
    for place in 0..READ_MESSAGES {
        let number = first + place % subjects;
        let _ = write!(input, "PUB guard.{number} 16\r\n{PAYLOAD}\r\n");
    }
    input
}

fn open(broker: &mut Broker, line: &str) -> ConnectionId {
    let facts = ConnectionFacts {
        peer_ip: None,
        peer_port: 0,
        kind: ConnectionKind::Client,
        tls: false,
        websocket: None,
    };
    let id = broker.accept(NOW, facts);
    broker.receive(
        NOW,
        id,
        b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n",
    );
    broker.receive(NOW, id, line.as_bytes());
    id
}

pub(crate) fn one_to_one(count: u64) {
    World::new(1, "SUB guard.> 1\r\n").publish(count, 1);
}

pub(crate) fn many_subjects(count: u64) {
    let mut world = World::new(1, "SUB guard.> 1\r\n");
    world.publish(READ_MESSAGES, 500);
    world.publish(count, 500);
}

pub(crate) fn fan_out(count: u64) {
    World::new(8, "SUB guard.> 1\r\n").publish(count, 1);
}

pub(crate) fn queue_group(count: u64) {
    World::new(8, "SUB guard.> workers 1\r\n").publish(count, 1);
}

/// A receiver inside the server, as a stream is one; its messages are dropped each turn.
pub(crate) fn to_endpoint(count: u64) {
    let mut world = World::new(0, "");
    let account = world.broker.account("$G").expect("there from the start");
    world.broker.bind(account, b"guard.>", EndpointId(1));
    let input = read(0, 1).replace(" 16", " _INBOX.abcdefgh.1 16");
    let mut deliveries = Vec::new();
    for _ in 0..count / READ_MESSAGES {
        world.receive(&input);
        world.broker.take_deliveries(&mut deliveries);
        black_box(&deliveries);
        deliveries.clear();
    }
}

/// Every subject is new to the match cache; what is counted includes writing the input.
pub(crate) fn fresh_subjects(count: u64) {
    let mut world = World::new(1, "SUB guard.> 1\r\n");
    for round in 0..count / READ_MESSAGES {
        let input = read(100_000 + round * READ_MESSAGES, READ_MESSAGES);
        world.receive(&input);
    }
}
