//! Core publish and subscribe, and request/reply.

use std::rc::Rc;

use crate::engine::Engine;
use crate::frames::{Supply, publish, publish_text};
use crate::roles::{Answering, Asking, Latencies, Publisher, Sink};
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic};
use crate::server::Side;

/// Bytes that may be on their way through the server: well below what it may keep for a slow
/// reader (64 MiB), well above what the kernel keeps.
const WINDOW_BYTES: usize = 16 << 20;
/// Subscriptions of the wildcard scenario.
const WILDCARDS: u64 = 100_000;
const HEADERS: &str = "NATS/1.0\r\nNats-Msg-Id: 0123456789\r\nContent-Type: text/plain\r\n\r\n";

/// Who sends to whom.
#[derive(Clone, Copy)]
enum Shape {
    /// Publishers with one subject each, and as many subscribers.
    Pairs(u64),
    Fan(u64),
    QueueGroup(u64),
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    for (name, payload) in SIZES {
        let scenario = Scenario::new(format!("core publish only, {name}"), move |context| {
            publish_only(context, payload)
        });
        list.push(with_targets(scenario, payload));
    }
    for (name, payload) in SIZES {
        let scenario = traffic_scenario(&format!("core 1:1, {name}"), Shape::Pairs(1), "", payload);
        list.push(if payload > 1024 {
            scenario.check(Check::of_relay(0.85))
        } else {
            scenario
        });
    }
    let shapes = [
        ("1:8", Shape::Fan(8)),
        ("4x4 pairs", Shape::Pairs(4)),
        ("queue group of 8", Shape::QueueGroup(8)),
    ];
    for (shape_name, shape) in shapes {
        for (name, payload) in SIZES.into_iter().filter(|(_, size)| *size != 1 << 20) {
            list.push(traffic_scenario(
                &format!("core {shape_name}, {name}"),
                shape,
                "",
                payload,
            ));
        }
    }
    list.push(traffic_scenario(
        "core headers 1:1, 128 B",
        Shape::Pairs(1),
        HEADERS,
        128,
    ));
    list.push(with_targets(
        Scenario::new("core 100,000 wildcard subscriptions, 128 B", wildcards),
        128,
    ));
    for clients in [1, 64] {
        list.push(
            Scenario::new(
                format!("core request/reply, {clients} clients"),
                move |context| request_reply(context, clients),
            )
            .check(Check::most(Metric::LatencyP50, 0.8))
            .check(Check::most(Metric::LatencyP99, 0.5))
            .check(Check::most(Metric::ServerCpu, 0.5)),
        );
    }
    list
}

const SIZES: [(&str, usize); 5] = [
    ("16 B", 16),
    ("128 B", 128),
    ("1 KiB", 1 << 10),
    ("16 KiB", 16 << 10),
    ("1 MiB", 1 << 20),
];

fn with_targets(scenario: Scenario, payload: usize) -> Scenario {
    if payload > 1024 {
        scenario.check(Check::most(Metric::ServerCpu, 0.6))
    } else {
        scenario
            .check(Check::least(Metric::Rate, 2.0))
            .check(Check::most(Metric::ServerCpu, 0.5))
    }
}

fn traffic_scenario(name: &str, shape: Shape, headers: &'static str, payload: usize) -> Scenario {
    let scenario = Scenario::new(name, move |context| {
        traffic(context, shape, headers, payload)
    });
    with_targets(scenario, payload)
}

/// The most messages on their way.
fn window(message_bytes: usize) -> u64 {
    ((WINDOW_BYTES / message_bytes) as u64).max(8)
}

fn publish_only(context: &mut Context<'_>, payload: usize) -> Result<Run, String> {
    let mut engine = Engine::new()?;
    let publisher = context.connect()?;
    context.timed(|| {
        let traffic = Rc::new(Traffic::lasting(context.phase()));
        let supply = Supply::repeat(&publish("bench", "", "", payload));
        engine.add(publisher, Publisher::new(supply, &traffic).confirming())?;
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

/// A message as a subscriber with sid 1 receives it.
fn delivered(subject: &str, headers: &str, payload: usize) -> Vec<u8> {
    let publish = publish(subject, "", headers, payload);
    let published = String::from_utf8_lossy(&publish);
    // The sid stands behind the subject, and the verb is another one.
    published
        .replacen("PUB", "MSG", 1)
        .replacen(subject, &format!("{subject} 1"), 1)
        .into_bytes()
}

fn traffic(
    context: &mut Context<'_>,
    shape: Shape,
    headers: &str,
    payload: usize,
) -> Result<Run, String> {
    let (pairs, readers, queue) = match shape {
        Shape::Pairs(pairs) => (pairs, 1, ""),
        Shape::Fan(readers) => (1, readers, ""),
        Shape::QueueGroup(readers) => (1, readers, "workers "),
    };
    let fan = if queue.is_empty() { readers } else { 1 };
    let is_relay = context.server.side == Side::Relay;
    let frame = delivered("bench.0", headers, payload);
    let mut engine = Engine::new()?;
    let mut clients = Vec::new();
    for pair in 0..pairs {
        let subject = format!("bench.{pair}");
        if is_relay {
            let sink = context.connect_raw()?;
            clients.push((vec![sink], context.connect_raw()?, frame.clone()));
            continue;
        }
        let mut sinks = Vec::new();
        for _ in 0..readers {
            let mut client = context.connect()?;
            client.send(format!("SUB {subject} {queue}1\r\n").as_bytes())?;
            client.flush()?;
            sinks.push(client);
        }
        let publish = publish(&subject, "", headers, payload);
        clients.push((sinks, context.connect()?, publish));
    }
    context.timed(|| {
        let traffic = Traffic::lasting(context.phase())
            .with_fan(fan)
            .with_window(window(frame.len()) * fan);
        let traffic = Rc::new(traffic);
        for (sinks, publisher, publish) in clients {
            for sink in sinks {
                engine.add(sink, Sink::new(frame.len(), &traffic))?;
            }
            engine.add(
                publisher,
                Publisher::new(Supply::repeat(&publish), &traffic),
            )?;
        }
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

/// One subscription for each of many subjects; every message goes to another one.
fn wildcards(context: &mut Context<'_>) -> Result<Run, String> {
    let count = context.count(WILDCARDS);
    let mut engine = Engine::new()?;
    let mut subscriber = context.connect()?;
    // Numbers of six digits, so that all frames have one length.
    let numbers = 100_000..100_000 + count;
    let lines: String = numbers
        .clone()
        .map(|number| format!("SUB bench.{number}.* {number}\r\n"))
        .collect();
    subscriber.send(lines.as_bytes())?;
    subscriber.flush()?;
    let publisher = context.connect()?;
    let message_bytes = "MSG bench.100000.x 100000 128\r\n\r\n".len() + 128;
    let frames = numbers.map(|number| publish(&format!("bench.{number}.x"), "", "", 128));
    let supply = Supply::new(frames);
    context.timed(|| {
        let traffic = Traffic::lasting(context.phase()).with_window(window(message_bytes));
        let traffic = Rc::new(traffic);
        engine.add(subscriber, Sink::new(message_bytes, &traffic))?;
        engine.add(publisher, Publisher::new(supply, &traffic))?;
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

fn request_reply(context: &mut Context<'_>, clients: usize) -> Result<Run, String> {
    let mut engine = Engine::new()?;
    let mut service = context.connect()?;
    service.send(b"SUB bench.service 1\r\n")?;
    service.flush()?;
    let mut asking = Vec::new();
    for number in 0..clients {
        let mut client = context.connect()?;
        client.send(format!("SUB bench.answers.{number} 1\r\n").as_bytes())?;
        client.flush()?;
        asking.push(client);
    }
    let latencies = Latencies::default();
    let mut run = context.timed(|| {
        let traffic = Rc::new(Traffic::lasting(context.phase()));
        engine.add(service, Answering::default())?;
        for (number, client) in asking.into_iter().enumerate() {
            let request = publish_text(
                "bench.service",
                &format!("bench.answers.{number}"),
                "0123456789abcdef",
            );
            let supply = Supply::repeat(&request);
            let role = Asking::new(supply, &traffic, &latencies, crate::roles::no_error);
            engine.add(client, role)?;
        }
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })?;
    run.latency = latencies.percentiles();
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::{HEADERS, delivered};

    #[test]
    fn a_delivered_message_is_the_published_one_with_a_sid() {
        assert_eq!(delivered("s", "", 2), b"MSG s 1 2\r\nxx\r\n");
        let expected = format!(
            "HMSG s 1 {} {}\r\n{HEADERS}x\r\n",
            HEADERS.len(),
            HEADERS.len() + 1
        );
        assert_eq!(delivered("s", HEADERS, 1), expected.into_bytes());
    }
}
