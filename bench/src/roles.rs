//! What connections do in more than one scenario: publish, count, ask and wait for the answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use crate::engine::{Output, Role};
use crate::frames::{Received, Scanner, Supply};
use crate::scenario::Traffic;
use crate::statistics::Latency;

/// Publishes as fast as the window allows; what it is sent must be PONG.
pub(crate) struct Publisher {
    supply: Supply,
    traffic: Rc<Traffic>,
    /// Ends with PING; the answer counts for everything that was sent.
    confirms: bool,
    is_confirming: bool,
}

impl Publisher {
    pub(crate) fn new(supply: Supply, traffic: &Rc<Traffic>) -> Self {
        Self {
            supply,
            traffic: Rc::clone(traffic),
            confirms: false,
            is_confirming: false,
        }
    }

    /// Nobody else counts: the server's PONG says that all was taken.
    pub(crate) fn confirming(mut self) -> Self {
        self.confirms = true;
        self
    }
}

impl Role for Publisher {
    fn received(&mut self, bytes: &[u8], _output: &mut Output) -> Result<(), String> {
        if bytes.starts_with(b"-ERR") {
            return Err("the publisher was refused".to_owned());
        }
        if self.is_confirming && memchr::memmem::find(bytes, b"PONG").is_some() {
            self.traffic.received(self.traffic.sent_count());
        }
        Ok(())
    }

    fn refill(&mut self, output: &mut Output) {
        let room = self.traffic.room();
        if room > 0 {
            let (count, range) = self.supply.take(room);
            output.share(self.supply.bytes(), range);
            self.traffic.sent(count);
        } else if self.confirms && self.traffic.is_closed() && !self.is_confirming {
            self.is_confirming = true;
            output.append(b"PING\r\n");
        }
    }
}

/// Counts messages of one known length without looking at them.
pub(crate) struct Sink {
    traffic: Rc<Traffic>,
    message_bytes: u64,
    bytes: u64,
    counted: u64,
}

impl Sink {
    pub(crate) fn new(message_bytes: usize, traffic: &Rc<Traffic>) -> Self {
        Self {
            traffic: Rc::clone(traffic),
            message_bytes: message_bytes as u64,
            bytes: 0,
            counted: 0,
        }
    }
}

impl Role for Sink {
    fn only_counts(&self) -> bool {
        true
    }

    fn counted(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let messages = self.bytes / self.message_bytes;
        self.traffic.received(messages - self.counted);
        self.counted = messages;
    }

    fn received(&mut self, _bytes: &[u8], _output: &mut Output) -> Result<(), String> {
        Ok(())
    }
}

/// Publishes to JetStream with a number of acknowledgements outstanding, and counts these.
pub(crate) struct Acknowledged {
    supply: Supply,
    traffic: Rc<Traffic>,
    window: u64,
    sent: u64,
    lines: u64,
    is_counted: bool,
}

impl Acknowledged {
    pub(crate) fn new(supply: Supply, window: u64, traffic: &Rc<Traffic>) -> Self {
        Self {
            supply,
            traffic: Rc::clone(traffic),
            window,
            sent: 0,
            lines: 0,
            is_counted: true,
        }
    }

    /// Somebody else counts what arrives; acknowledgements only open the window.
    pub(crate) fn uncounted(mut self) -> Self {
        self.is_counted = false;
        self
    }
}

impl Role for Acknowledged {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String> {
        if memchr::memmem::find(bytes, b"\"error\"").is_some() || bytes.starts_with(b"-ERR") {
            return Err("a publish was refused".to_owned());
        }
        let before = self.lines / 2;
        // An acknowledgement is a MSG line and a payload line; the server's PING may come between.
        self.lines += memchr::memchr_iter(b'\n', bytes).count() as u64;
        if memchr::memmem::find(bytes, b"PING\r\n").is_some() {
            self.lines -= 1;
            output.append(b"PONG\r\n");
        }
        if self.is_counted {
            self.traffic.received(self.lines / 2 - before);
        }
        Ok(())
    }

    fn refill(&mut self, output: &mut Output) {
        let own = self.window.saturating_sub(self.sent - self.lines / 2);
        if own == 0 {
            return;
        }
        let room = self.traffic.room().min(own);
        if room > 0 {
            let (count, range) = self.supply.take(room);
            output.share(self.supply.bytes(), range);
            self.traffic.sent(count);
            self.sent += count;
        }
    }
}

/// Latencies in nanoseconds, of all connections of a run.
#[derive(Clone, Default)]
pub(crate) struct Latencies(Rc<RefCell<Vec<u64>>>);

impl Latencies {
    pub(crate) fn add(&self, since: Instant) {
        let nanoseconds = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.borrow_mut().push(nanoseconds);
    }

    pub(crate) fn percentiles(&self) -> Option<Latency> {
        Latency::of(&mut self.0.borrow_mut())
    }
}

/// Asks one thing at a time and times the answers.
pub(crate) struct Asking {
    supply: Supply,
    traffic: Rc<Traffic>,
    latencies: Latencies,
    asked: Option<Instant>,
    /// Questions that this connection has left.
    left: u64,
    scanner: Scanner,
    check: fn(&Received<'_>) -> Result<(), String>,
}

impl Asking {
    pub(crate) fn new(
        supply: Supply,
        traffic: &Rc<Traffic>,
        latencies: &Latencies,
        check: fn(&Received<'_>) -> Result<(), String>,
    ) -> Self {
        Self {
            supply,
            traffic: Rc::clone(traffic),
            latencies: latencies.clone(),
            asked: None,
            left: u64::MAX,
            scanner: Scanner::default(),
            check,
        }
    }

    /// Asks no more than this, whatever the others do.
    pub(crate) fn at_most(mut self, questions: u64) -> Self {
        self.left = questions;
        self
    }
}

/// The answer of JetStream to a publish or an API request.
pub(crate) fn no_error(answer: &Received<'_>) -> Result<(), String> {
    if answer.is_error() {
        Err("the server answered with an error".to_owned())
    } else if let Some(status) = answer.status().filter(|status| *status >= 400) {
        Err(format!("the server answered with status {status}"))
    } else {
        Ok(())
    }
}

impl Role for Asking {
    fn received(&mut self, bytes: &[u8], _output: &mut Output) -> Result<(), String> {
        let (asked, check) = (&mut self.asked, self.check);
        let (latencies, traffic) = (&self.latencies, &self.traffic);
        self.scanner.scan(bytes, |answer| {
            check(&answer)?;
            if let Some(asked) = asked.take() {
                latencies.add(asked);
                traffic.received(1);
            }
            Ok(())
        })
    }

    fn refill(&mut self, output: &mut Output) {
        if self.asked.is_none() && self.left > 0 && self.traffic.room() > 0 {
            self.left -= 1;
            let (count, range) = self.supply.take(1);
            output.share(self.supply.bytes(), range);
            self.traffic.sent(count);
            self.asked = Some(Instant::now());
        }
    }
}

/// Answers every request.
#[derive(Default)]
pub(crate) struct Answering {
    scanner: Scanner,
}

impl Role for Answering {
    fn received(&mut self, bytes: &[u8], output: &mut Output) -> Result<(), String> {
        self.scanner.scan(bytes, |request| {
            output.append(b"PUB ");
            output.append(request.reply().unwrap_or(b"nowhere"));
            output.append(b" 16\r\n0123456789abcdef\r\n");
            Ok(())
        })
    }
}
