//! Publishing to JetStream: one and many clients, one and many streams, key-value puts, file and
//! memory storage.

use super::jetstream::{ACKS, STREAM, SUBJECT, WINDOW, create_stream, publisher};
use crate::engine::Engine;
use crate::frames::{Supply, publish};
use crate::roles::{Acknowledged, Asking, Latencies, no_error};
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic};
use crate::server::Syncing;

const FILE: &str = "\"storage\":\"file\"";
const MEMORY: &str = "\"storage\":\"memory\"";
/// Streams of the scenario with many of them.
const STREAMS: usize = 100;
/// Keys of the key-value scenario.
const KEYS: u64 = 100_000;

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    for syncing in [Syncing::Shipped, Syncing::Always] {
        let target = match syncing {
            Syncing::Always => Check::least(Metric::Rate, 50.0),
            _ => Check::least(Metric::Rate, 1.0),
        };
        list.extend(file_scenarios(syncing, target));
    }
    list.extend([
        Scenario::new(
            "jetstream memory sync publish, 1 client, 128 B",
            |context| lockstep(context, MEMORY, 1),
        ),
        Scenario::new(
            "jetstream memory sync publish, 64 clients, 128 B",
            |context| lockstep(context, MEMORY, 64),
        ),
        Scenario::new("jetstream memory async publish, 128 B", |context| {
            windowed(context, MEMORY, 128)
        }),
        Scenario::new("jetstream memory async publish, 1 KiB", |context| {
            windowed(context, MEMORY, 1024)
        }),
    ]);
    list
}

fn file_scenarios(syncing: Syncing, target: Check) -> Vec<Scenario> {
    let sixty_four = Scenario::new("jetstream sync publish, 64 clients, 128 B", |context| {
        lockstep(context, FILE, 64)
    });
    vec![
        Scenario::new("jetstream sync publish, 1 client, 128 B", |context| {
            lockstep(context, FILE, 1)
        })
        .syncing(syncing),
        if syncing == Syncing::Always {
            sixty_four.syncing(syncing)
        } else {
            sixty_four.syncing(syncing).check(target)
        },
        Scenario::new("jetstream async publish, 128 B", |context| {
            windowed(context, FILE, 128)
        })
        .syncing(syncing)
        .check(target),
        Scenario::new("jetstream async publish, 1 KiB", |context| {
            windowed(context, FILE, 1024)
        })
        .syncing(syncing)
        .check(target),
        Scenario::new("jetstream 100 streams, sync publishers, 128 B", |context| {
            many_streams(context, 1)
        })
        .syncing(syncing)
        .check(target),
        Scenario::new("jetstream 100 streams, windows of 100, 128 B", |context| {
            many_streams(context, 100)
        })
        .syncing(syncing)
        .check(target),
        Scenario::new("jetstream kv put, 100,000 keys, 128 B", kv_put).syncing(syncing),
    ]
}

/// Clients that wait for each acknowledgement before they publish again.
fn lockstep(context: &mut Context<'_>, storage: &str, clients: usize) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, storage)?;
    let engine = Engine::new()?;
    let connections = subscribed(context, clients)?;
    let latencies = Latencies::default();
    let traffic = Traffic::lasting(context.phase());
    let mut run = context.driven(engine, traffic, |engine, traffic| {
        for (number, client) in connections.into_iter().enumerate() {
            let frame = publish(SUBJECT, &format!("bench.inbox.{number}"), "", 128);
            let supply = Supply::repeat(&frame);
            engine.add(client, Asking::new(supply, traffic, &latencies, no_error))?;
        }
        Ok(())
    })?;
    run.latency = latencies.percentiles();
    Ok(run)
}

/// Connections with an inbox each: `bench.inbox.0` and so on.
pub(super) fn subscribed(
    context: &Context<'_>,
    clients: usize,
) -> Result<Vec<crate::control::Client>, String> {
    let mut connections = Vec::new();
    for number in 0..clients {
        let mut client = context.connect()?;
        client.send(format!("SUB bench.inbox.{number} 1\r\n").as_bytes())?;
        client.flush()?;
        connections.push(client);
    }
    Ok(connections)
}

/// One publisher with a window of unacknowledged messages.
fn windowed(context: &mut Context<'_>, storage: &str, payload: usize) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, storage)?;
    let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", payload));
    windowed_supply(context, supply, WINDOW, Traffic::lasting(context.phase()))
}

/// The same with any frames that name [`ACKS`] as reply.
pub(super) fn windowed_supply(
    context: &mut Context<'_>,
    supply: Supply,
    window: u64,
    traffic: Traffic,
) -> Result<Run, String> {
    let engine = Engine::new()?;
    let client = publisher(context)?;
    context.driven(engine, traffic, |engine, traffic| {
        engine.add(client, Acknowledged::new(supply, window, traffic))
    })
}

/// A publisher for each of many streams.
fn many_streams(context: &mut Context<'_>, window: u64) -> Result<Run, String> {
    for number in 0..STREAMS {
        let name = format!("{STREAM}{number}");
        create_stream(context, &name, &format!("bench.many.{number}"), FILE)?;
    }
    let engine = Engine::new()?;
    let connections = subscribed(context, STREAMS)?;
    let traffic = Traffic::lasting(context.phase());
    context.driven(engine, traffic, |engine, traffic| {
        for (number, client) in connections.into_iter().enumerate() {
            let inbox = format!("bench.inbox.{number}");
            let frame = publish(&format!("bench.many.{number}"), &inbox, "", 128);
            let role = Acknowledged::new(Supply::repeat(&frame), window, traffic);
            engine.add(client, role)?;
        }
        Ok(())
    })
}

/// A bucket as clients make it, and puts on many keys.
fn kv_put(context: &mut Context<'_>) -> Result<Run, String> {
    create_bucket(context)?;
    let keys = context.count(KEYS);
    windowed_supply(
        context,
        key_puts(keys),
        WINDOW,
        Traffic::lasting(context.phase()),
    )
}

pub(super) fn create_bucket(context: &mut Context<'_>) -> Result<(), String> {
    let fields = "\"storage\":\"file\",\"max_msgs_per_subject\":1,\"deny_delete\":true,\
                  \"allow_rollup_hdrs\":true,\"allow_direct\":true,\"discard\":\"new\"";
    create_stream(context, "KV_BENCH", "$KV.BENCH.>", fields)
}

pub(super) fn key_puts(keys: u64) -> Supply {
    let frames = (0..keys).map(|key| publish(&format!("$KV.BENCH.key{key:06}"), ACKS, "", 128));
    Supply::new(frames)
}
