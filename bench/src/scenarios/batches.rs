//! Atomic batches, one after the other: only the commit waits for its answer.

use std::rc::Rc;

use super::jetstream::{ACKS, STREAM, SUBJECT, create_stream, publisher};
use crate::engine::{Engine, Output, Role};
use crate::frames::{Scanner, publish};
use crate::roles::no_error;
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic};
use crate::server::Syncing;

/// Digits of a batch's number, which is its identity.
const DIGITS: usize = 10;

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    for syncing in [Syncing::Shipped, Syncing::Always, Syncing::Lazy] {
        for size in [10, 100, 1000] {
            let scenario = Scenario::new(
                format!("jetstream atomic batches of {size}, 128 B"),
                move |context| batches(context, size),
            )
            .syncing(syncing);
            list.push(match (syncing, size) {
                (_, 10) | (Syncing::Always, _) => scenario,
                (Syncing::Shipped, _) => scenario.check(Check::least(Metric::Rate, 5.0)),
                (Syncing::Lazy, _) => scenario.check(Check::least(Metric::Rate, 10.0)),
            });
        }
    }
    list
}

fn batches(context: &mut Context<'_>, size: u64) -> Result<Run, String> {
    let fields = "\"storage\":\"file\",\"allow_atomic\":true";
    create_stream(context, STREAM, SUBJECT, fields)?;
    let engine = Engine::new()?;
    let client = publisher(context)?;
    let traffic = Traffic::lasting(context.phase());
    context.driven(engine, traffic, |engine, traffic| {
        engine.add(client, Committing::new(size, traffic))
    })
}

/// The bytes of a batch and the places in it where its number stands.
struct Template {
    bytes: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    fn new(size: u64) -> Self {
        let mut template = Self {
            bytes: Vec::new(),
            places: Vec::new(),
        };
        for sequence in 1..=size {
            let (commit, reply) = if sequence == size {
                ("Nats-Batch-Commit: 1\r\n", ACKS)
            } else {
                ("", "")
            };
            let headers = format!(
                "NATS/1.0\r\nNats-Batch-Id: {:0DIGITS$}\r\nNats-Batch-Sequence: {sequence}\r\n{commit}\r\n",
                0
            );
            let frame = publish(SUBJECT, reply, &headers, 128);
            let place = memchr::memmem::find(&frame, b"Batch-Id: ").map(|at| at + 10);
            template
                .places
                .extend(place.map(|at| template.bytes.len() + at));
            template.bytes.extend_from_slice(&frame);
        }
        template
    }

    fn number(&mut self, number: u64) -> &[u8] {
        let digits = format!("{number:0DIGITS$}");
        for place in &self.places {
            if let Some(there) = self.bytes.get_mut(*place..*place + DIGITS) {
                there.copy_from_slice(digits.as_bytes());
            }
        }
        &self.bytes
    }
}

struct Committing {
    template: Template,
    size: u64,
    batches: u64,
    is_waiting: bool,
    scanner: Scanner,
    traffic: Rc<Traffic>,
}

impl Committing {
    fn new(size: u64, traffic: &Rc<Traffic>) -> Self {
        Self {
            template: Template::new(size),
            size,
            batches: 0,
            is_waiting: false,
            scanner: Scanner::default(),
            traffic: Rc::clone(traffic),
        }
    }
}

impl Role for Committing {
    fn received(&mut self, bytes: &[u8], _output: &mut Output) -> Result<(), String> {
        let (is_waiting, traffic, size) = (&mut self.is_waiting, &self.traffic, self.size);
        self.scanner.scan(bytes, |answer| {
            no_error(&answer)?;
            *is_waiting = false;
            traffic.received(size);
            Ok(())
        })
    }

    fn refill(&mut self, output: &mut Output) {
        if !self.is_waiting && self.traffic.room() > 0 {
            self.batches += 1;
            output.append(self.template.number(self.batches));
            self.traffic.sent(self.size);
            self.is_waiting = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn a_template_takes_the_number_of_every_batch() {
        let mut template = Template::new(3);
        let text = String::from_utf8(template.number(42).to_vec()).unwrap();
        assert_eq!(text.matches("Nats-Batch-Id: 0000000042\r\n").count(), 3);
        assert_eq!(text.matches("Nats-Batch-Commit: 1\r\n").count(), 1);
        assert!(text.contains("Nats-Batch-Sequence: 3\r\nNats-Batch-Commit: 1\r\n\r\n"));
    }
}
