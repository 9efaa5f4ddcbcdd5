//! Reading from streams: ordered, pulled and acknowledged, filtered, by direct get; and a work
//! queue in steady state.

use std::rc::Rc;

use super::jetstream::{ACKS, STREAM, SUBJECT, WINDOW, create_stream, fill};
use super::publish::{create_bucket, key_puts, subscribed};
use crate::engine::{Engine, Output, Role};
use crate::frames::{Received, Scanner, Supply, publish, publish_text};
use crate::roles::{Acknowledged, Asking, Latencies, no_error};
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic};
use crate::server::Syncing;

/// Messages in the stream that is read.
const STORED: u64 = 300_000;
/// Messages in the stream of which few match.
const SPARSE_STORED: u64 = 1_000_000;
/// One of so many matches.
const SPARSE_EVERY: u64 = 10_000;
/// Messages of a pull request.
const BATCH: u64 = 200;
/// Messages that a pull request of an ordered consumer asks for, as clients do it.
const ORDERED_BATCH: u64 = 500;
/// Messages in a work queue, at most.
const QUEUED: u64 = 5_000;
const KEYS: u64 = 100_000;
/// Bytes of a payload.
const PAYLOAD: usize = 128;

pub(super) fn scenarios() -> Vec<Scenario> {
    let twice = Check::least(Metric::Rate, 2.0);
    let mut list = Vec::new();
    for syncing in [Syncing::Shipped, Syncing::Always] {
        let queue = Scenario::new(
            "jetstream work queue, publish, pull, ack, 128 B",
            work_queue,
        );
        let queue = queue.syncing(syncing);
        list.extend([
            Scenario::new("jetstream ordered consumer, 128 B", ordered)
                .filled_first()
                .syncing(syncing)
                .check(twice),
            Scenario::new("jetstream ordered consumer by pull, 128 B", |context| {
                pulled(context, "none", ORDERED_BATCH)
            })
            .filled_first()
            .syncing(syncing)
            .check(twice),
            Scenario::new(
                "jetstream pull with ack, batches of 200, 128 B",
                |context| pulled(context, "explicit", BATCH),
            )
            .filled_first()
            .syncing(syncing)
            .check(twice),
            Scenario::new("jetstream consumer, filter 1 in 10,000", sparse)
                .filled_first()
                .syncing(syncing)
                .check(Check::least(Metric::Rate, 20.0)),
            Scenario::new("jetstream direct get, 1 client", |context| {
                direct_get(context, 1)
            })
            .filled_first()
            .syncing(syncing),
            Scenario::new("jetstream direct get, 64 clients", |context| {
                direct_get(context, 64)
            })
            .filled_first()
            .syncing(syncing),
            if syncing == Syncing::Shipped {
                queue.check(Check::least(Metric::Rate, 0.8))
            } else {
                queue
            },
        ]);
    }
    list
}

/// A stream with messages in it.
fn filled(context: &mut Context<'_>) -> Result<u64, String> {
    create_stream(context, STREAM, SUBJECT, "\"storage\":\"file\"")?;
    let messages = context.count(STORED);
    let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", PAYLOAD));
    fill(context, supply, messages, WINDOW)?;
    context.filled()?;
    Ok(messages)
}

/// A push consumer as ordered ones are made: no acknowledgements, flow control, heartbeats.
fn ordered(context: &mut Context<'_>) -> Result<Run, String> {
    let messages = filled(context)?;
    replay(context, STREAM, messages)
}

/// Reads a whole stream through an ordered push consumer.
pub(super) fn replay(
    context: &mut Context<'_>,
    stream: &str,
    messages: u64,
) -> Result<Run, String> {
    let engine = Engine::new()?;
    let client = reader(context)?;
    context.driven(engine, Traffic::counting(messages), |engine, traffic| {
        traffic.sent(messages);
        engine.add(client, Ordered::new(stream, "", traffic))
    })
}

/// A connection that hears what [`Ordered`] and [`Pulling`] ask for.
pub(super) fn reader(context: &Context<'_>) -> Result<crate::control::Client, String> {
    let mut client = context.connect()?;
    client.send(b"SUB bench.read 1\r\nSUB bench.setup 2\r\n")?;
    client.flush()?;
    Ok(client)
}

/// Creates an ordered push consumer and counts what it sends.
pub(super) struct Ordered {
    create: Vec<u8>,
    scanner: Scanner,
    traffic: Rc<Traffic>,
}

impl Ordered {
    pub(super) fn new(stream: &str, filter: &str, traffic: &Rc<Traffic>) -> Self {
        Self {
            create: create_ordered(stream, filter, "bench.read"),
            scanner: Scanner::default(),
            traffic: Rc::clone(traffic),
        }
    }
}

fn create_ordered(stream: &str, filter: &str, deliver: &str) -> Vec<u8> {
    let filter = if filter.is_empty() {
        String::new()
    } else {
        format!(",\"filter_subject\":\"{filter}\"")
    };
    let body = format!(
        "{{\"stream_name\":\"{stream}\",\"config\":{{\"deliver_policy\":\"all\",\"ack_policy\":\"none\",\
         \"deliver_subject\":\"{deliver}\",\"flow_control\":true,\"idle_heartbeat\":5000000000,\
         \"max_deliver\":1,\"mem_storage\":true,\"num_replicas\":1,\"inactive_threshold\":60000000000{filter}}}}}"
    );
    let subject = format!("$JS.API.CONSUMER.CREATE.{stream}");
    publish_text(&subject, "bench.setup", &body)
}

/// How many messages of the stream are in these bytes.
fn count_messages(scanner: &mut Scanner, bytes: &[u8], output: &mut Output) -> Result<u64, String> {
    let mut messages = 0;
    scanner.scan(bytes, |received| {
        messages += u64::from(is_message(&received, output)?);
        Ok(())
    })?;
    Ok(messages)
}

/// Answers flow control and refuses what is no message; whether it is one.
fn is_message(received: &Received<'_>, output: &mut Output) -> Result<bool, String> {
    if received.sid() == b"2" {
        no_error(received)?;
        return Ok(false);
    }
    match received.status() {
        None => Ok(true),
        Some(100) => {
            let header = memchr::memmem::find(received.body, b"Nats-Consumer-Stalled: ");
            let stalled = header.and_then(|at| received.body.get(at + 23..));
            let stalled = stalled.and_then(|rest| rest.split(|byte| *byte == b'\r').next());
            if let Some(reply) = received.reply().or(stalled) {
                output.append(b"PUB ");
                output.append(reply);
                output.append(b" 0\r\n\r\n");
            }
            Ok(false)
        }
        Some(status) => Err(format!("the consumer sent status {status}")),
    }
}

impl Role for Ordered {
    fn start(&mut self, output: &mut Output) {
        output.append(&self.create);
    }

    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String> {
        let messages = count_messages(&mut self.scanner, bytes, output)?;
        self.traffic.received(messages);
        Ok(())
    }
}

/// A durable pull consumer over the whole stream, one request at a time.
fn pulled(context: &mut Context<'_>, policy: &str, batch: u64) -> Result<Run, String> {
    let messages = filled(context)?;
    create_pull_consumer(context, policy)?;
    let engine = Engine::new()?;
    let client = reader(context)?;
    let is_acked = policy == "explicit";
    context.driven(engine, Traffic::counting(messages), |engine, traffic| {
        traffic.sent(messages);
        engine.add(client, Pulling::new(batch, is_acked, traffic))
    })
}

fn create_pull_consumer(context: &Context<'_>, policy: &str) -> Result<(), String> {
    let body = format!(
        "{{\"stream_name\":\"{STREAM}\",\"config\":{{\"durable_name\":\"reader\",\"ack_policy\":\"{policy}\",\
         \"deliver_policy\":\"all\",\"max_ack_pending\":10000}}}}"
    );
    let subject = format!("$JS.API.CONSUMER.CREATE.{STREAM}.reader");
    context.connect()?.request(&subject, &body).map(|_| ())
}

/// Asks for a batch, acknowledges each message of it, asks for the next one.
struct Pulling {
    request: Vec<u8>,
    batch: u64,
    is_acked: bool,
    missing: u64,
    scanner: Scanner,
    traffic: Rc<Traffic>,
}

impl Pulling {
    fn new(batch: u64, is_acked: bool, traffic: &Rc<Traffic>) -> Self {
        let body = format!("{{\"batch\":{batch},\"expires\":5000000000}}");
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.reader");
        Self {
            request: publish_text(&subject, "bench.read", &body),
            batch,
            is_acked,
            missing: 0,
            scanner: Scanner::default(),
            traffic: Rc::clone(traffic),
        }
    }
}

impl Role for Pulling {
    fn start(&mut self, output: &mut Output) {
        output.append(&self.request);
        self.missing = self.batch;
    }

    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String> {
        let (missing, is_acked) = (&mut self.missing, self.is_acked);
        let mut messages = 0;
        self.scanner.scan(bytes, |received| {
            match received.status() {
                None => {
                    messages += 1;
                    *missing = missing.saturating_sub(1);
                    if is_acked && let Some(reply) = received.reply() {
                        output.append(b"PUB ");
                        output.append(reply);
                        output.append(b" 4\r\n+ACK\r\n");
                    }
                }
                // The request expired, or its batch ended early.
                Some(404 | 408) => *missing = 0,
                Some(409) if memchr::memmem::find(received.body, b"Batch Completed").is_some() => {
                    *missing = 0;
                }
                Some(100) => {}
                Some(status) => return Err(format!("the consumer sent status {status}")),
            }
            Ok(())
        })?;
        self.traffic.received(messages);
        if self.missing == 0 && !self.traffic.is_finished() {
            output.append(&self.request);
            self.missing = self.batch;
        }
        Ok(())
    }
}

/// More than are made in one measurement.
const SPARSE_CONSUMERS_MAX: u32 = 1_000_000;

/// Consumers one after the other over a stream of which few messages match; the rate is that of
/// messages of the stream which were passed.
fn sparse(context: &mut Context<'_>) -> Result<Run, String> {
    // Consumers of finished replays stay until they were idle for some seconds.
    let fields = format!("\"storage\":\"file\",\"max_consumers\":{SPARSE_CONSUMERS_MAX}");
    create_stream(context, STREAM, "bench.*", &fields)?;
    let every = SPARSE_EVERY.min(context.count(SPARSE_EVERY));
    let matching = context.count(SPARSE_STORED).div_ceil(every);
    let frames = (0..every).map(|number| {
        let subject = if number == every / 2 {
            "bench.rare"
        } else {
            "bench.many"
        };
        publish(subject, ACKS_OUTSIDE, "", PAYLOAD)
    });
    fill_outside(context, Supply::new(frames), matching * every)?;
    context.filled()?;
    let engine = Engine::new()?;
    let client = reader(context)?;
    let latencies = Latencies::default();
    let traffic = Traffic::lasting(context.phase());
    let mut run = context.driven(engine, traffic, |engine, traffic| {
        let role = Replaying {
            matching,
            missing: 0,
            replays: 0,
            since: std::time::Instant::now(),
            scanner: Scanner::default(),
            traffic: Rc::clone(traffic),
            latencies: latencies.clone(),
        };
        engine.add(client, role)
    })?;
    run.messages *= every;
    run.latency = latencies.percentiles();
    Ok(run)
}

/// Acknowledgements of a stream that holds `bench.*`: they must not be messages of it.
const ACKS_OUTSIDE: &str = "outside.acks";

fn fill_outside(context: &Context<'_>, supply: Supply, messages: u64) -> Result<(), String> {
    let mut client = context.connect()?;
    client.send(format!("SUB {ACKS_OUTSIDE} 1\r\n").as_bytes())?;
    client.flush()?;
    let mut engine = Engine::new()?;
    let traffic = Rc::new(Traffic::counting(messages));
    engine.add(client, Acknowledged::new(supply, WINDOW, &traffic))?;
    engine.run(|| traffic.is_finished())
}

/// Subscriptions of [`Replaying`] are numbered from here.
const FIRST_SID: u64 = 10;

/// Makes a filtered consumer, waits for all that matches, makes the next one.
struct Replaying {
    matching: u64,
    missing: u64,
    replays: u64,
    since: std::time::Instant,
    scanner: Scanner,
    traffic: Rc<Traffic>,
    latencies: Latencies,
}

impl Role for Replaying {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String> {
        let messages = count_messages(&mut self.scanner, bytes, output)?;
        self.missing = self.missing.saturating_sub(messages);
        self.traffic.received(messages);
        if self.missing == 0 && messages > 0 {
            self.latencies.add(self.since);
        }
        Ok(())
    }

    fn refill(&mut self, output: &mut Output) {
        if self.missing > 0 || self.traffic.room() == 0 {
            return;
        }
        self.replays += 1;
        self.missing = self.matching;
        self.since = std::time::Instant::now();
        self.traffic.sent(self.matching);
        // An inbox for each: the reference counts only a literal subscription as interest.
        let (replay, before) = (self.replays + FIRST_SID, self.replays + FIRST_SID - 1);
        let deliver = format!("bench.read.{replay}");
        output.append(format!("UNSUB {before}\r\nSUB {deliver} {replay}\r\n").as_bytes());
        output.append(&create_ordered(STREAM, "bench.rare", &deliver));
    }
}

/// The last message of a key, for many keys.
fn direct_get(context: &mut Context<'_>, clients: usize) -> Result<Run, String> {
    create_bucket(context)?;
    let keys = context.count(KEYS);
    fill(context, key_puts(keys), keys, WINDOW)?;
    context.filled()?;
    let engine = Engine::new()?;
    let mut connections = Vec::new();
    for (number, client) in subscribed(context, clients)?.into_iter().enumerate() {
        let inbox = format!("bench.inbox.{number}");
        // A stride that meets all keys in an order which no cache foresees.
        let frames = (0..keys.min(10_000)).map(|step| {
            let key = (step * 7919 + number as u64 * 104_729) % keys;
            let subject = format!("$JS.API.DIRECT.GET.KV_BENCH.$KV.BENCH.key{key:06}");
            publish_text(&subject, &inbox, "")
        });
        connections.push((client, Supply::new(frames)));
    }
    let latencies = Latencies::default();
    let traffic = Traffic::lasting(context.phase());
    let mut run = context.driven(engine, traffic, |engine, traffic| {
        for (client, supply) in connections {
            engine.add(client, Asking::new(supply, traffic, &latencies, no_error))?;
        }
        Ok(())
    })?;
    run.latency = latencies.percentiles();
    Ok(run)
}

/// A publisher and a worker on a work queue that holds a few thousand messages at most.
fn work_queue(context: &mut Context<'_>) -> Result<Run, String> {
    let fields = "\"storage\":\"file\",\"retention\":\"workqueue\"";
    create_stream(context, STREAM, SUBJECT, fields)?;
    create_pull_consumer(context, "explicit")?;
    let engine = Engine::new()?;
    let publisher = super::jetstream::publisher(context)?;
    let worker = reader(context)?;
    // What the worker receives opens the window; acknowledged publishes are counted apart.
    let worked = Traffic::lasting(context.phase()).with_window(QUEUED);
    context.driven(engine, worked, |engine, worked| {
        let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", PAYLOAD));
        let role = Acknowledged::new(supply, WINDOW, worked).uncounted();
        engine.add(publisher, role)?;
        engine.add(worker, Pulling::new(BATCH, true, worked))
    })
}
