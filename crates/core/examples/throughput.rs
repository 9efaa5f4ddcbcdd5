//! How fast the broker alone moves messages: no sockets, one thread. For finding regressions of
//! the hot path; comparisons with other servers are the business of `bench/`.
//!
//! `cargo run --release -p millrace-core --example throughput`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use millrace_clock::Now;
use millrace_config::Options;
use millrace_core::{
    Broker, BrokerSettings, ConnectionFacts, ConnectionId, ConnectionKind, ServerIdentity,
};

/// Bytes handed to the broker at once, as a host reads them.
const READ_BYTES: usize = 64 * 1024;
const TOTAL_BYTES: usize = 512 * 1024 * 1024;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";

fn open(broker: &mut Broker, now: Now, line: &str) -> ConnectionId {
    let kind = ConnectionKind::Client;
    let id = broker.accept(
        now,
        ConnectionFacts {
            peer_ip: None,
            peer_port: 0,
            kind,
            tls: false,
            websocket: None,
        },
    );
    broker.receive(now, id, CONNECT);
    broker.receive(now, id, line.as_bytes());
    id
}

/// Publishes `size`-byte messages on `subjects` subjects to `receivers` subscribers of all.
fn run(name: &str, size: usize, subjects: usize, receivers: usize, queue: &str) {
    let now = Now::default();
    let settings = BrokerSettings {
        options: Arc::new(Options::default()),
        identity: ServerIdentity::default(),
        random_seed: 1,
    };
    let mut broker = Broker::new(now, settings);
    let line = format!("SUB bench.> {queue} 1\r\n");
    let subscribers: Vec<_> = (0..receivers)
        .map(|_| open(&mut broker, now, &line))
        .collect();
    let publisher = open(&mut broker, now, "PING\r\n");
    let mut input = Vec::new();
    let mut messages = 0_u64;
    while input.len() < READ_BYTES {
        let subject = messages as usize % subjects;
        input.extend_from_slice(format!("PUB bench.{subject} {size}\r\n").as_bytes());
        input.resize(input.len() + size, b'x');
        input.extend_from_slice(b"\r\n");
        messages += 1;
    }
    let rounds = (TOTAL_BYTES / input.len() / receivers.max(1)).max(1) as u64;
    let started = Instant::now();
    for _ in 0..rounds {
        broker.receive(now, publisher, &input);
        for id in &subscribers {
            let outbound = broker.outbound(*id);
            black_box(&*outbound);
            outbound.consumed(outbound.pending());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let total = (rounds * messages) as f64;
    println!(
        "{name:40} {:8.2} M messages/s in, {:6.0} ns each",
        total / seconds / 1e6,
        seconds / total * 1e9
    );
}

fn main() {
    run("16 bytes, nobody listens", 16, 1, 0, "");
    run("16 bytes, one subject, one receiver", 16, 1, 1, "");
    run("16 bytes, 500 subjects, one receiver", 16, 500, 1, "");
    run("128 bytes, one receiver", 128, 1, 1, "");
    run("1 KiB, one receiver", 1024, 1, 1, "");
    run("16 bytes, 10 receivers", 16, 1, 10, "");
    run("16 bytes, 100 receivers", 16, 1, 100, "");
    run("16 bytes, queue group of 10", 16, 1, 10, "q");
    run("128 KiB, 10 receivers", 128 * 1024, 1, 10, "");
}
