//! Start-up with a large store: the time until the server says it is healthy and answers for the
//! stream, and its memory then.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::jetstream::{STREAM, WINDOW, create_stream};
use crate::control::{Client, text};
use crate::engine::Engine;
use crate::frames::{Supply, publish, publish_text};
use crate::roles::Acknowledged;
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic, Unit};

const MESSAGES: u64 = 5_000_000;
const SUBJECTS: u64 = 1_000_000;
const CONSUMERS: u64 = 1_000;
/// Where acknowledgements go: outside of the stream's subjects.
const ACKS: &str = "outside.acks";
/// How long a server may take to get ready.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// Until the memory is looked at: what the start left behind is part of it.
const SETTLE: Duration = Duration::from_millis(500);

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::of_one_call(
            "jetstream start-up, 5 million messages, 1 million subjects, 1,000 consumers",
            startup,
        )
        .restarting()
        .unit(Unit::Milliseconds)
        .check(Check::most(Metric::Seconds, 0.1))
        .check(Check::most(Metric::Memory, 0.5)),
    ]
}

/// Prepares once and starts as often as there are rounds.
fn startup(context: &mut Context<'_>) -> Result<Vec<Run>, String> {
    let messages = context.count(MESSAGES);
    prepare(context, messages)?;
    (0..context.rounds.max(1))
        .map(|_| {
            let start = context.restart()?;
            wait_until_ready(context, messages)?;
            let seconds = start.elapsed().as_secs_f64();
            let server_cpu_seconds = context.server.cpu_seconds();
            std::thread::sleep(SETTLE);
            Ok(Run {
                messages,
                seconds,
                server_cpu_seconds,
                memory_bytes: context.server.memory_bytes().map(|bytes| bytes as f64),
                peak_memory_bytes: context.server.peak_memory_bytes().map(|bytes| bytes as f64),
                ..Run::default()
            })
        })
        .collect()
}

fn prepare(context: &mut Context<'_>, messages: u64) -> Result<(), String> {
    create_stream(context, STREAM, "bench.>", "\"storage\":\"file\"")?;
    let consumers = context.count(CONSUMERS);
    let subjects = context.count(SUBJECTS).next_multiple_of(consumers);
    let frames = (0..subjects).map(|number| {
        let subject = format!("bench.{:06}.{:06}", number % consumers, number / consumers);
        publish(&subject, ACKS, "", 128)
    });
    send_all(context, Supply::new(frames), messages, WINDOW)?;
    let api = format!("$JS.API.CONSUMER.CREATE.{STREAM}");
    let frames = (0..consumers).map(|number| {
        let body = format!(
            "{{\"stream_name\":\"{STREAM}\",\"config\":{{\"durable_name\":\"reader{number:06}\",\
             \"ack_policy\":\"explicit\",\"filter_subject\":\"bench.{number:06}.>\"}}}}"
        );
        let subject = format!("{api}.reader{number:06}");
        publish_text(&subject, ACKS, &body)
    });
    send_all(context, Supply::new(frames), consumers, 16)
}

fn send_all(context: &Context<'_>, supply: Supply, count: u64, window: u64) -> Result<(), String> {
    let mut client = context.connect()?;
    client.send(format!("SUB {ACKS} 1\r\n").as_bytes())?;
    client.flush()?;
    let mut engine = Engine::new()?;
    let traffic = Rc::new(Traffic::counting(count));
    engine.add(client, Acknowledged::new(supply, window, &traffic))?;
    engine.run(|| traffic.is_finished())
}

fn wait_until_ready(context: &mut Context<'_>, messages: u64) -> Result<(), String> {
    let monitoring = context.server.monitoring.clone();
    let monitoring = monitoring.ok_or("no monitoring address")?;
    let deadline = Instant::now() + PATIENCE;
    let mut healthy = false;
    while Instant::now() < deadline {
        healthy = healthy || is_healthy(&monitoring);
        if healthy && stream_answers(context, messages) {
            return Ok(());
        }
        if let Some(ended) = context.server.ended() {
            return Err(ended);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    Err(format!("not ready after {PATIENCE:?}"))
}

fn is_healthy(monitoring: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(monitoring).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .map_err(text)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(text)?;
        Ok::<_, String>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn stream_answers(context: &Context<'_>, messages: u64) -> bool {
    let expected = format!("\"messages\":{messages},");
    Client::connect(&context.server.endpoint)
        .and_then(|mut client| client.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), ""))
        .is_ok_and(|answer| answer.contains(&expected))
}
