//! What is measured. Each scenario drives one running server and returns how many messages it
//! moved in what time, and what that cost the server.

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, READ_BYTES, publish_block, text};
use crate::server::Server;

/// Messages per write of a publisher.
const BLOCK_MESSAGES: usize = 500;
/// Unacknowledged publishes of an asynchronous JetStream publisher.
const WINDOW: u64 = 1_000;

/// What a scenario must reach for the row to pass.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Throughput at least this multiple of the reference's.
    Throughput(f64),
    /// Memory at most this many bytes.
    MemoryBytes(u64),
    None,
}

/// The result of one run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) server_cpu_seconds: f64,
    /// Latencies in microseconds, where measured: p50 and p99.
    pub(crate) latency_us: Option<(f64, f64)>,
    /// Memory in bytes, where that is what is measured.
    pub(crate) memory_bytes: Option<u64>,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    pub(crate) run: fn(&Server, f64) -> Result<Run, String>,
}

pub(crate) fn all() -> Vec<Scenario> {
    let scenario = |name, target, run| Scenario { name, target, run };
    vec![
        scenario("idle memory", Target::MemoryBytes(20 << 20), idle_memory),
        scenario("core publish only, 128 B", Target::None, |server, scale| {
            publish_only(server, 128, count(4e6, scale))
        }),
        scenario(
            "core 1:1, 16 B",
            Target::Throughput(1.0),
            |server, scale| fan_out(server, 1, 16, count(3e6, scale)),
        ),
        scenario(
            "core 1:1, 128 B",
            Target::Throughput(1.0),
            |server, scale| fan_out(server, 1, 128, count(3e6, scale)),
        ),
        scenario(
            "core 1:1, 1 KiB",
            Target::Throughput(1.0),
            |server, scale| fan_out(server, 1, 1024, count(1e6, scale)),
        ),
        scenario("core 1:8, 128 B", Target::None, |server, scale| {
            fan_out(server, 8, 128, count(5e5, scale))
        }),
        scenario(
            "core request/reply, 1 client",
            Target::None,
            |server, scale| request_reply(server, count(2e4, scale)),
        ),
        scenario(
            "jetstream async publish, 128 B",
            Target::Throughput(0.5),
            |server, scale| async_publish(server, 128, count(3e5, scale)),
        ),
        scenario(
            "jetstream async publish, 1 KiB",
            Target::Throughput(0.5),
            |server, scale| async_publish(server, 1024, count(2e5, scale)),
        ),
        scenario(
            "jetstream sync publish, 1 client, 128 B",
            Target::None,
            |server, scale| sync_publish(server, 128, count(5e3, scale)),
        ),
        scenario(
            "jetstream atomic batches of 100, 128 B",
            Target::None,
            |server, scale| atomic_batches(server, 100, count(1e3, scale)),
        ),
        scenario(
            "jetstream atomic batches of 1000, 128 B",
            Target::None,
            |server, scale| atomic_batches(server, 1000, count(1e2, scale)),
        ),
    ]
}

fn count(base: f64, scale: f64) -> u64 {
    (base * scale).max(1.0) as u64
}

/// Times `work` and the processor time that the server spends on it.
fn timed(
    server: &Server,
    messages: u64,
    work: impl FnOnce() -> Result<(), String>,
) -> Result<Run, String> {
    let (cpu, start) = (server.cpu_seconds(), Instant::now());
    work()?;
    let seconds = start.elapsed().as_secs_f64();
    let server_cpu_seconds = server.cpu_seconds() - cpu;
    Ok(Run {
        messages,
        seconds,
        server_cpu_seconds,
        ..Run::default()
    })
}

fn idle_memory(server: &Server, _scale: f64) -> Result<Run, String> {
    let mut client = Client::connect(&server.address)?;
    client.flush()?;
    // A moment for background work of the start to be over; the figure is a state, not a time.
    thread::sleep(Duration::from_millis(500));
    Ok(Run {
        messages: 1,
        seconds: 1.0,
        memory_bytes: Some(server.memory_bytes()),
        ..Run::default()
    })
}

fn publish_all(client: &mut Client, payload: usize, messages: u64) -> Result<(), String> {
    let block = publish_block("bench", "", payload, BLOCK_MESSAGES);
    let size = block.len() / BLOCK_MESSAGES;
    let mut left = messages as usize;
    while left > 0 {
        let now = left.min(BLOCK_MESSAGES);
        client.send(&block[..now * size])?;
        left -= now;
    }
    Ok(())
}

fn publish_only(server: &Server, payload: usize, messages: u64) -> Result<Run, String> {
    let mut client = Client::connect(&server.address)?;
    timed(server, messages, || {
        publish_all(&mut client, payload, messages)?;
        client.flush().map(|_| ())
    })
}

/// One publisher, `receivers` subscribers; counts what all receive.
fn fan_out(server: &Server, receivers: u64, payload: usize, messages: u64) -> Result<Run, String> {
    let message_bytes = format!("MSG bench 1 {payload}\r\n").len() + payload + 2;
    let mut subscribers = Vec::new();
    for _ in 0..receivers {
        let mut client = Client::connect(&server.address)?;
        client.send(b"SUB bench 1\r\n")?;
        client.flush()?;
        subscribers.push(client);
    }
    let mut publisher = Client::connect(&server.address)?;
    timed(server, messages * receivers, || {
        thread::scope(|scope| {
            let readers: Vec<_> = subscribers
                .iter_mut()
                .map(|client| {
                    scope.spawn(move || read_bytes(client, message_bytes as u64 * messages))
                })
                .collect();
            publish_all(&mut publisher, payload, messages)?;
            for reader in readers {
                reader
                    .join()
                    .map_err(|_| "a reader panicked".to_owned())??;
            }
            Ok(())
        })
    })
}

fn read_bytes(client: &mut Client, mut left: u64) -> Result<(), String> {
    let mut block = vec![0; READ_BYTES];
    while left > 0 {
        let count = client.stream.read(&mut block).map_err(text)? as u64;
        if count == 0 {
            return Err("the server closed a subscriber".to_owned());
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

fn request_reply(server: &Server, requests: u64) -> Result<Run, String> {
    let mut service = Client::connect(&server.address)?;
    service.send(b"SUB service 1\r\n")?;
    service.flush()?;
    let mut asking = Client::connect(&server.address)?;
    asking.send(b"SUB answers 1\r\n")?;
    asking.flush()?;
    let mut latencies = Vec::with_capacity(requests as usize);
    let mut run = thread::scope(|scope| {
        let answering = scope.spawn(move || answer(&mut service, requests));
        let run = timed(server, requests, || {
            for _ in 0..requests {
                let start = Instant::now();
                asking.send(b"PUB service answers 16\r\n0123456789abcdef\r\n")?;
                asking.read_until(b"fedcba9876543210\r\n")?;
                latencies.push(start.elapsed().as_secs_f64() * 1e6);
            }
            Ok(())
        });
        answering
            .join()
            .map_err(|_| "the service panicked".to_owned())??;
        run
    })?;
    run.latency_us = Some(percentiles(&mut latencies));
    Ok(run)
}

fn answer(service: &mut Client, requests: u64) -> Result<(), String> {
    for _ in 0..requests {
        service.read_until(b"0123456789abcdef\r\n")?;
        service.send(b"PUB answers 16\r\nfedcba9876543210\r\n")?;
    }
    Ok(())
}

fn percentiles(latencies: &mut [f64]) -> (f64, f64) {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies
            .get(index)
            .or_else(|| latencies.last())
            .copied()
            .unwrap_or(0.0)
    };
    (at(0.5), at(0.99))
}

fn create_stream(server: &Server) -> Result<Client, String> {
    let mut client = Client::connect(&server.address)?;
    client.request(
        "$JS.API.STREAM.CREATE.bench",
        r#"{"name":"bench","subjects":["bench"],"storage":"file","allow_atomic":true}"#,
    )?;
    Ok(client)
}

/// Publishes with at most [`WINDOW`] acknowledgements outstanding.
fn async_publish(server: &Server, payload: usize, messages: u64) -> Result<Run, String> {
    let mut publisher = create_stream(server)?;
    publisher.send(b"SUB acks 1\r\n")?;
    publisher.flush()?;
    let mut reader = Client {
        stream: publisher.stream.try_clone().map_err(text)?,
    };
    let acked = AtomicU64::new(0);
    let block = publish_block("bench", "acks", payload, WINDOW as usize);
    let size = block.len() / WINDOW as usize;
    timed(server, messages, || {
        let this = thread::current();
        thread::scope(|scope| {
            let reading = scope.spawn(|| count_acks(&mut reader, messages, &acked, &this));
            let mut sent = 0;
            while sent < messages {
                let room = (acked.load(Ordering::Acquire) + WINDOW - sent).min(messages - sent);
                if room == 0 {
                    if reading.is_finished() {
                        break;
                    }
                    thread::park_timeout(Duration::from_millis(1));
                    continue;
                }
                publisher.send(&block[..room as usize * size])?;
                sent += room;
            }
            reading
                .join()
                .map_err(|_| "the reader panicked".to_owned())?
        })
    })
}

/// Every acknowledgement is a MSG line and a payload line.
fn count_acks(
    reader: &mut Client,
    messages: u64,
    acked: &AtomicU64,
    waiting: &thread::Thread,
) -> Result<(), String> {
    let mut block = vec![0; READ_BYTES];
    let mut lines = 0;
    while lines < messages * 2 {
        let count = reader.stream.read(&mut block).map_err(text)?;
        if count == 0 {
            return Err("the server closed the publisher".to_owned());
        }
        let received = &block[..count];
        if memchr::memmem::find(received, b"\"error\"").is_some() {
            return Err(String::from_utf8_lossy(received).into_owned());
        }
        lines += memchr::memchr_iter(b'\n', received).count() as u64;
        acked.store(lines / 2, Ordering::Release);
        waiting.unpark();
    }
    Ok(())
}

fn sync_publish(server: &Server, payload: usize, messages: u64) -> Result<Run, String> {
    let mut publisher = create_stream(server)?;
    publisher.send(b"SUB acks 1\r\n")?;
    publisher.flush()?;
    let one = publish_block("bench", "acks", payload, 1);
    let mut latencies = Vec::with_capacity(messages as usize);
    let mut run = timed(server, messages, || {
        for _ in 0..messages {
            let start = Instant::now();
            publisher.send(&one)?;
            publisher.read_until(b"}\r\n")?;
            latencies.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    })?;
    run.latency_us = Some(percentiles(&mut latencies));
    Ok(run)
}

/// Batches one after the other: only the commit waits for its answer.
fn atomic_batches(server: &Server, size: u64, batches: u64) -> Result<Run, String> {
    let mut publisher = create_stream(server)?;
    publisher.send(b"SUB acks 1\r\n")?;
    publisher.flush()?;
    timed(server, size * batches, || {
        for batch in 0..batches {
            let mut block = Vec::new();
            for sequence in 1..=size {
                let commit = if sequence == size {
                    "Nats-Batch-Commit: 1\r\n"
                } else {
                    ""
                };
                let reply = if sequence == size { "acks " } else { "" };
                let headers = format!(
                    "NATS/1.0\r\nNats-Batch-Id: b{batch}\r\nNats-Batch-Sequence: {sequence}\r\n{commit}\r\n"
                );
                let head = format!(
                    "HPUB bench {reply}{} {}\r\n",
                    headers.len(),
                    headers.len() + 128
                );
                block.extend_from_slice(head.as_bytes());
                block.extend_from_slice(headers.as_bytes());
                block.resize(block.len() + 128, b'x');
                block.extend_from_slice(b"\r\n");
            }
            publisher.send(&block)?;
            let answer = publisher.read_until(b"}\r\n")?;
            if memchr::memmem::find(&answer, b"\"error\"").is_some() {
                return Err(String::from_utf8_lossy(&answer).into_owned());
            }
        }
        Ok(())
    })
}
