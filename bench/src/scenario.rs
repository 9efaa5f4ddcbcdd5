//! What a scenario is: a name, a target, and a function that drives one running server and says
//! how many messages it moved in what time and what that cost.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::control::Client;
use crate::engine::Engine;
use crate::server::{Launch, Server, Side, Syncing};
use crate::statistics::Latency;

/// How long a measured phase lasts at scale 1.
const PHASE_SECONDS: f64 = 1.0;
const PHASE_SECONDS_LEAST: f64 = 0.03;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    Rate,
    ServerCpu,
    LatencyP50,
    LatencyP99,
    Memory,
    /// Time of the whole run.
    Seconds,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::ServerCpu => "CPU",
            Self::LatencyP50 => "p50",
            Self::LatencyP99 => "p99",
            Self::Memory => "memory",
            Self::Seconds => "time",
        }
    }
}

/// What a ratio of ours to another side must reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) metric: Metric,
    pub(crate) against: Side,
    pub(crate) bound: Bound,
}

impl Check {
    pub(crate) const fn least(metric: Metric, ratio: f64) -> Self {
        Self {
            metric,
            against: Side::Reference,
            bound: Bound::AtLeast(ratio),
        }
    }

    pub(crate) const fn most(metric: Metric, ratio: f64) -> Self {
        Self {
            metric,
            against: Side::Reference,
            bound: Bound::AtMost(ratio),
        }
    }

    pub(crate) const fn of_relay(ratio: f64) -> Self {
        Self {
            metric: Metric::Rate,
            against: Side::Relay,
            bound: Bound::AtLeast(ratio),
        }
    }
}

/// What a row's main figure is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    MessagesPerSecond,
    /// MiB a second, of payloads of so many bytes.
    MebibytesPerSecond(usize),
    /// Bytes of memory for each of something.
    BytesEach,
    /// Milliseconds of the whole run.
    Milliseconds,
}

/// The result of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) server_cpu_seconds: Option<f64>,
    pub(crate) generator_cpu_seconds: f64,
    pub(crate) latency: Option<Latency>,
    /// Memory in bytes, where that is what is measured.
    pub(crate) memory_bytes: Option<f64>,
    pub(crate) peak_memory_bytes: Option<f64>,
    /// A second figure and its name.
    pub(crate) aside: Option<(&'static str, f64)>,
}

type RunFunction = Box<dyn Fn(&mut Context<'_>) -> Result<Vec<Run>, String>>;

pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) syncing: Syncing,
    pub(crate) unit: Unit,
    pub(crate) checks: Vec<Check>,
    /// Whether the server must be one that this program may stop and start.
    pub(crate) restarts: bool,
    /// Whether the stream is filled with the server's own syncing before that of the scenario
    /// takes over; or a reference that syncs every message would need minutes.
    pub(crate) is_filled_first: bool,
    /// Runs of one call are the rounds (used where the preparation takes long).
    pub(crate) is_one_call: bool,
    /// It takes so long that it is run only when it is named.
    pub(crate) is_apart: bool,
    pub(crate) run: RunFunction,
}

impl Scenario {
    pub(crate) fn new(
        name: impl Into<String>,
        run: impl Fn(&mut Context<'_>) -> Result<Run, String> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            syncing: Syncing::Shipped,
            unit: Unit::MessagesPerSecond,
            checks: Vec::new(),
            restarts: false,
            is_filled_first: false,
            is_one_call: false,
            is_apart: false,
            run: Box::new(move |context| Ok(vec![run(context)?])),
        }
    }

    /// A scenario whose one call returns a run for each round.
    pub(crate) fn of_one_call(
        name: impl Into<String>,
        run: impl Fn(&mut Context<'_>) -> Result<Vec<Run>, String> + 'static,
    ) -> Self {
        Self {
            is_one_call: true,
            run: Box::new(run),
            ..Self::new(name, |_| Ok(Run::default()))
        }
    }

    pub(crate) fn syncing(mut self, syncing: Syncing) -> Self {
        self.syncing = syncing;
        self.name = format!("{} [{}]", self.name, syncing.name());
        self
    }

    /// Needs a server that this program may stop and start.
    pub(crate) fn restarting(mut self) -> Self {
        self.restarts = true;
        self
    }

    /// Run only when it is named.
    pub(crate) fn apart(mut self) -> Self {
        self.is_apart = true;
        self
    }

    pub(crate) fn filled_first(mut self) -> Self {
        self.is_filled_first = true;
        self
    }

    pub(crate) fn unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    pub(crate) fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    pub(crate) fn has_relay(&self) -> bool {
        self.checks.iter().any(|check| check.against == Side::Relay)
    }
}

/// What a scenario works with.
pub(crate) struct Context<'a> {
    pub(crate) server: &'a mut Server,
    /// How the server was started; none of one that was there before.
    pub(crate) launch: Option<&'a Launch<'a>>,
    pub(crate) scale: f64,
    /// How often a scenario of one call repeats.
    pub(crate) rounds: usize,
    /// Streams to delete at the end, if the server stays.
    pub(crate) streams: Vec<String>,
}

impl Context<'_> {
    pub(crate) fn connect(&self) -> Result<Client, String> {
        Client::connect(&self.server.endpoint)
    }

    /// A number of things at this scale.
    pub(crate) fn count(&self, base: u64) -> u64 {
        ((base as f64 * self.scale) as u64).max(base.min(20))
    }

    /// How long to publish at this scale.
    pub(crate) fn phase(&self) -> Duration {
        Duration::from_secs_f64((PHASE_SECONDS * self.scale).max(PHASE_SECONDS_LEAST))
    }

    /// Stops the server in order and starts it on the same data.
    pub(crate) fn restart(&mut self) -> Result<Instant, String> {
        let launch = self.launch.ok_or("this server cannot be restarted")?;
        self.server.restart(launch)
    }

    /// To be called when the stream is filled: from now on the scenario's syncing holds.
    pub(crate) fn filled(&mut self) -> Result<(), String> {
        match self.launch {
            Some(launch) if launch.syncing != Syncing::Shipped => self.restart().map(|_| ()),
            _ => Ok(()),
        }
    }

    /// A connection without protocol, to the relay.
    pub(crate) fn connect_raw(&self) -> Result<Client, String> {
        Client::connect_raw(&self.server.endpoint)
    }

    /// Times `work`, which returns the number of messages, and what both sides spend on it.
    pub(crate) fn timed(&self, work: impl FnOnce() -> Result<u64, String>) -> Result<Run, String> {
        let cpu = (self.server.cpu_seconds(), own_cpu_seconds());
        let start = Instant::now();
        let messages = work()?;
        let seconds = start.elapsed().as_secs_f64();
        let spent = self.server.cpu_seconds().zip(cpu.0);
        Ok(Run {
            messages,
            seconds,
            server_cpu_seconds: spent.map(|(after, before)| after - before),
            generator_cpu_seconds: own_cpu_seconds() - cpu.1,
            ..Run::default()
        })
    }

    /// Times what the roles that `add` puts on `engine` do until `traffic` is finished. The messages
    /// are those received.
    pub(crate) fn driven(
        &self,
        mut engine: Engine,
        traffic: Traffic,
        add: impl FnOnce(&mut Engine, &Rc<Traffic>) -> Result<(), String>,
    ) -> Result<Run, String> {
        self.timed(|| {
            let traffic = Rc::new(traffic.starting_now());
            add(&mut engine, &traffic)?;
            engine.run(|| traffic.is_finished())?;
            Ok(traffic.received_count())
        })
    }
}

fn own_cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Messages on their way, shared by the connections of a run.
pub(crate) struct Traffic {
    /// No more are sent after this many, or this moment.
    most: u64,
    until: Instant,
    time: Duration,
    /// Receptions of each message.
    fan: u64,
    /// Receptions that may be outstanding.
    window: u64,
    sent: Cell<u64>,
    received: Cell<u64>,
    is_closed: Cell<bool>,
}

impl Traffic {
    /// Ends after a time.
    pub(crate) fn lasting(time: Duration) -> Self {
        Self {
            most: u64::MAX,
            until: Instant::now() + time,
            time,
            fan: 1,
            window: u64::MAX / 2,
            sent: Cell::new(0),
            received: Cell::new(0),
            is_closed: Cell::new(false),
        }
    }

    /// Ends after a number of messages.
    pub(crate) fn counting(most: u64) -> Self {
        Self {
            most,
            ..Self::lasting(Duration::from_secs(3600))
        }
    }

    /// The time counts from now.
    pub(crate) fn starting_now(mut self) -> Self {
        self.until = Instant::now() + self.time;
        self
    }

    pub(crate) fn with_most(mut self, most: u64) -> Self {
        self.most = most;
        self
    }

    pub(crate) fn with_fan(mut self, fan: u64) -> Self {
        self.fan = fan;
        self
    }

    pub(crate) fn with_window(mut self, window: u64) -> Self {
        self.window = window;
        self
    }

    /// How many messages may be sent now.
    pub(crate) fn room(&self) -> u64 {
        if self.is_closed.get() {
            return 0;
        }
        if Instant::now() >= self.until || self.sent.get() >= self.most {
            self.is_closed.set(true);
            return 0;
        }
        let outstanding = (self.sent.get() * self.fan).saturating_sub(self.received.get());
        let free = self.window.saturating_sub(outstanding);
        if self.window / 4 > free {
            // Few and large writes rather than one for every reception.
            return 0;
        }
        (free / self.fan).min(self.most - self.sent.get())
    }

    pub(crate) fn sent(&self, count: u64) {
        self.sent.set(self.sent.get() + count);
    }

    pub(crate) fn received(&self, count: u64) {
        self.received.set(self.received.get() + count);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(crate) fn sent_count(&self) -> u64 {
        self.sent.get()
    }

    pub(crate) fn received_count(&self) -> u64 {
        self.received.get()
    }

    /// Nothing more is sent and everything has arrived.
    pub(crate) fn is_finished(&self) -> bool {
        let is_sent = self.is_closed.get() || self.sent.get() >= self.most;
        is_sent && self.received.get() >= self.sent.get() * self.fan
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Traffic;

    #[test]
    fn a_window_counts_receptions_and_opens_by_quarters() {
        let traffic = Traffic::counting(1000).with_fan(2).with_window(80);
        assert_eq!(traffic.room(), 40);
        traffic.sent(40);
        assert_eq!(traffic.room(), 0);
        traffic.received(19);
        assert_eq!(traffic.room(), 0);
        traffic.received(1);
        assert_eq!(traffic.room(), 10);
        assert!(!traffic.is_finished());
    }

    #[test]
    fn traffic_is_finished_when_all_that_was_sent_has_arrived() {
        let traffic = Traffic::counting(5);
        traffic.sent(5);
        assert_eq!(traffic.room(), 0);
        assert!(!traffic.is_finished());
        traffic.received(5);
        assert!(traffic.is_finished());
        let traffic = Traffic::lasting(Duration::ZERO);
        assert_eq!(traffic.room(), 0);
        assert!(traffic.is_finished());
    }
}
