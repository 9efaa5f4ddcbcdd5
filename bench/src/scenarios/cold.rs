//! More data than memory: what was written long ago is read back once by sequence and once through a
//! filtered consumer, and the server keeps within its budget meanwhile.

use std::rc::Rc;

use super::consumers::{Ordered, reader};
use super::jetstream::{STREAM, create_stream};
use super::publish::subscribed;
use crate::control::text;
use crate::engine::Engine;
use crate::frames::{Supply, publish_bytes, publish_text};
use crate::roles::{Acknowledged, Asking, Latencies, no_error};
use crate::scenario::{Context, Run, Scenario, Traffic, Unit};
use crate::server::Side;

/// Bytes of the stream at scale 1.
const COLD_BYTES: u64 = 20_000_000_000;
/// Bytes of a payload. Nothing in it repeats.
const PAYLOAD: usize = 32 << 10;
/// Messages that are prepared; the stream holds them again and again, further apart than anything
/// that is compressed together.
const PREPARED: usize = 2048;
/// Publishes on their way.
const COLD_WINDOW: u64 = 256;
/// Connections that read by sequence, each one message at a time.
const READERS: usize = 8;
/// What our server may take at its peak, stated before it was measured: its budget (`max_cache` as
/// shipped, 256 MiB), and 128 MiB for the program, what is on its way between sockets and disk, and
/// what the allocator cannot give back.
const PEAK_BYTES_MAX: u64 = (256 + 128) << 20;
/// Where acknowledgements go: outside of the stream's subjects.
const ACKS: &str = "outside.acks";

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("cold data, 20 GB under a budget of 256 MiB", cold)
            .unit(Unit::MebibytesPerSecond(PAYLOAD))
            .apart(),
    ]
}

/// The figure is that of the consumer; reading by sequence stands beside it.
fn cold(context: &mut Context<'_>) -> Result<Run, String> {
    let fields = "\"storage\":\"file\",\"allow_direct\":true";
    create_stream(context, STREAM, "bench.cold.*", fields)?;
    let messages = context.count(COLD_BYTES / PAYLOAD as u64);
    fill(context, messages)?;
    let by_sequence = read_by_sequence(context, messages)?;
    let client = reader(context)?;
    let engine = Engine::new()?;
    let traffic = Traffic::counting(messages);
    let mut run = context.driven(engine, traffic, |engine, traffic| {
        traffic.sent(messages);
        engine.add(client, Ordered::new(STREAM, "bench.cold.>", traffic))
    })?;
    let rate = by_sequence.messages as f64 / by_sequence.seconds;
    run.aside = Some((
        "MiB/s by sequence",
        rate * PAYLOAD as f64 / f64::from(1 << 20),
    ));
    run.latency = by_sequence.latency;
    let peak = context.server.peak_memory_bytes().unwrap_or_default();
    if context.server.side == Side::Ours && peak > PEAK_BYTES_MAX {
        return Err(format!(
            "{} MiB at the peak: more than the {} that were stated",
            peak >> 20,
            PEAK_BYTES_MAX >> 20
        ));
    }
    Ok(run)
}

fn fill(context: &Context<'_>, messages: u64) -> Result<(), String> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let frames = (0..PREPARED).map(|number| {
        let subject = format!("bench.cold.{}", number % 4);
        publish_bytes(&subject, ACKS, &noise.bytes(PAYLOAD))
    });
    let mut client = context.connect()?;
    client.send(format!("SUB {ACKS} 1\r\n").as_bytes())?;
    client.flush()?;
    let mut engine = Engine::new()?;
    let traffic = Rc::new(Traffic::counting(messages));
    let role = Acknowledged::new(Supply::new(frames), COLD_WINDOW, &traffic);
    engine.add(client, role)?;
    engine.run(|| traffic.is_finished())
}

/// Every message once, by direct get.
fn read_by_sequence(context: &Context<'_>, messages: u64) -> Result<Run, String> {
    let mut connections = Vec::new();
    for (number, client) in subscribed(context, READERS)?.into_iter().enumerate() {
        let inbox = format!("bench.inbox.{number}");
        let frames = (1 + number as u64..=messages).step_by(READERS);
        // A number in a field of fixed width, so that all requests have one length.
        let frames = frames.map(|sequence| {
            let body = format!("{{\"seq\":{sequence:<12}}}");
            publish_text(&format!("$JS.API.DIRECT.GET.{STREAM}"), &inbox, &body)
        });
        connections.push((client, Supply::new(frames)));
    }
    let latencies = Latencies::default();
    let engine = Engine::new()?;
    let traffic = Traffic::counting(messages);
    let mut run = context.driven(engine, traffic, |engine, traffic| {
        for (client, supply) in connections {
            let shares = supply.len() as u64;
            let role = Asking::new(supply, traffic, &latencies, no_error).at_most(shares);
            engine.add(client, role).map_err(text)?;
        }
        Ok(())
    })?;
    run.latency = latencies.percentiles();
    Ok(run)
}

/// Bytes that no codec makes smaller, the same in every run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
