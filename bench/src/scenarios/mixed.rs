//! Two things at once: publishing while a consumer reads cold data, publishing while subscriptions
//! come and go; and deletes in the interior of a stream.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::consumers::{Ordered, reader};
use super::jetstream::{ACKS, STREAM, SUBJECT, WINDOW, create_stream, fill, publisher};
use crate::engine::{Engine, Output, Role};
use crate::frames::{Supply, publish, publish_text};
use crate::roles::{Acknowledged, Publisher, Sink};
use crate::scenario::{Context, Run, Scenario, Traffic};
use crate::server::Syncing;

/// Messages of 1 KiB that lie in the stream before it is read: more than a server caches.
const COLD: u64 = 300_000;
/// Messages of which some are deleted.
const INTERIOR: u64 = 100_000;
/// Every so many is deleted.
const DELETE_EVERY: u64 = 7;
/// Delete requests on their way.
const DELETE_WINDOW: u64 = 64;
/// One SUB and one UNSUB after each such time: 1,000 a second.
const CHURN_EVERY: Duration = Duration::from_millis(1);

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![Scenario::new(
        "core 1:1, 128 B, under 1,000 SUB/UNSUB a second",
        core_under_churn,
    )];
    for syncing in [Syncing::Shipped, Syncing::Always] {
        list.extend([
            Scenario::new("jetstream deletes in the interior", deletes)
                .filled_first()
                .syncing(syncing),
            Scenario::new(
                "jetstream async publish beside a cold reader, 1 KiB",
                beside_cold_reader,
            )
            .filled_first()
            .restarting()
            .syncing(syncing),
            Scenario::new(
                "jetstream async publish under 1,000 SUB/UNSUB a second, 128 B",
                publish_under_churn,
            )
            .syncing(syncing),
        ]);
    }
    list
}

fn deletes(context: &mut Context<'_>) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, "\"storage\":\"file\"")?;
    let messages = context.count(INTERIOR);
    let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", 128));
    fill(context, supply, messages, WINDOW)?;
    context.filled()?;
    let api = format!("$JS.API.STREAM.MSG.DELETE.{STREAM}");
    let requests: Vec<Vec<u8>> = (1..messages)
        .step_by(DELETE_EVERY as usize)
        .map(|sequence| {
            // A number in a field of fixed width, so that all requests have one length.
            publish_text(
                &api,
                ACKS,
                &format!("{{\"seq\":{sequence:<9},\"no_erase\":true}}"),
            )
        })
        .collect();
    let count = requests.len() as u64;
    let mut engine = Engine::new()?;
    let client = publisher(context)?;
    let supply = Supply::new(requests);
    context.timed(|| {
        let traffic = Rc::new(Traffic::lasting(context.phase()).with_most(count));
        engine.add(client, Acknowledged::new(supply, DELETE_WINDOW, &traffic))?;
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

fn beside_cold_reader(context: &mut Context<'_>) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, "\"storage\":\"file\"")?;
    let cold = context.count(COLD);
    let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", 1024));
    fill(context, supply.clone(), cold, WINDOW)?;
    context.restart()?;
    let mut engine = Engine::new()?;
    let (writing, reading) = (publisher(context)?, reader(context)?);
    let mut read = 0;
    let mut run = context.timed(|| {
        let published = Rc::new(Traffic::lasting(context.phase()));
        let replayed = Rc::new(Traffic::counting(u64::MAX));
        engine.add(reading, Ordered::new(STREAM, "", &replayed))?;
        engine.add(writing, Acknowledged::new(supply, WINDOW, &published))?;
        engine.run(|| published.is_finished())?;
        read = replayed.received_count();
        Ok(published.received_count())
    })?;
    run.aside = Some(("read/s", read as f64 / run.seconds));
    Ok(run)
}

fn publish_under_churn(context: &mut Context<'_>) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, "\"storage\":\"file\"")?;
    let mut engine = Engine::new()?.with_tick(CHURN_EVERY);
    let (writing, churning) = (publisher(context)?, context.connect()?);
    context.timed(|| {
        let traffic = Rc::new(Traffic::lasting(context.phase()));
        let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", 128));
        engine.add(writing, Acknowledged::new(supply, WINDOW, &traffic))?;
        engine.add(churning, Churn::new())?;
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

fn core_under_churn(context: &mut Context<'_>) -> Result<Run, String> {
    let mut engine = Engine::new()?.with_tick(CHURN_EVERY);
    let mut subscriber = context.connect()?;
    subscriber.send(b"SUB bench.0 1\r\n")?;
    subscriber.flush()?;
    let (publishing, churning) = (context.connect()?, context.connect()?);
    let message_bytes = "MSG bench.0 1 128\r\n\r\n".len() + 128;
    context.timed(|| {
        let traffic = Rc::new(Traffic::lasting(context.phase()).with_window(100_000));
        engine.add(subscriber, Sink::new(message_bytes, &traffic))?;
        let supply = Supply::repeat(&publish("bench.0", "", "", 128));
        engine.add(publishing, Publisher::new(supply, &traffic))?;
        engine.add(churning, Churn::new())?;
        engine.run(|| traffic.is_finished())?;
        Ok(traffic.received_count())
    })
}

/// Subscribes to a new subject and leaves it, again and again at a steady pace.
struct Churn {
    next: Instant,
    number: u64,
}

impl Churn {
    fn new() -> Self {
        Self {
            next: Instant::now(),
            number: 0,
        }
    }
}

impl Role for Churn {
    fn received(&mut self, _bytes: &[u8], _output: &mut Output) -> Result<(), String> {
        Ok(())
    }

    fn refill(&mut self, output: &mut Output) {
        while Instant::now() >= self.next {
            self.next += CHURN_EVERY;
            self.number += 1;
            let number = self.number;
            let lines = format!("SUB bench.churn.{number} {number}\r\nUNSUB {number}\r\n");
            output.append(lines.as_bytes());
        }
    }
}
