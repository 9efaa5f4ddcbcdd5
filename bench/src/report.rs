//! Tables and JSON of what was measured, and whether targets were reached.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::pin::Pinning;
use crate::scenario::{Bound, Check, Metric, Run, Scenario, Unit};
use crate::server::{Side, Syncing};
use crate::statistics::{Latency, Spread};

/// A generator that is busy for less of the time waits for the server.
const BUSY_SHARE: f64 = 0.7;
/// Processor time is counted in steps of 10 ms: a shorter one says nothing.
const CPU_SECONDS_LEAST: f64 = 0.05;
const MEBIBYTE: f64 = (1 << 20) as f64;

impl Run {
    fn rate(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    fn server_cpu_ns(&self) -> Option<f64> {
        let seconds = self.server_cpu_seconds?;
        (seconds >= CPU_SECONDS_LEAST).then(|| seconds * 1e9 / self.messages as f64)
    }

    fn generator_cpu_ns(&self) -> f64 {
        self.generator_cpu_seconds * 1e9 / self.messages as f64
    }

    fn metric(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::Rate => Some(self.rate()),
            Metric::ServerCpu => self.server_cpu_ns(),
            Metric::LatencyP50 => self.latency.map(|latency| latency.p50_us),
            Metric::LatencyP99 => self.latency.map(|latency| latency.p99_us),
            Metric::Memory => self.memory_bytes,
            Metric::Seconds => Some(self.seconds),
        }
    }
}

/// What became of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Pass,
    Fail,
    /// There is nothing to compare with.
    Unknown,
}

/// A scenario with the measurements of both servers, in the order in which they were taken.
pub(crate) struct Row {
    name: String,
    syncing: Syncing,
    pinning: Pinning,
    unit: Unit,
    checks: Vec<Check>,
    pub(crate) ours: Vec<Run>,
    pub(crate) reference: Vec<Run>,
    pub(crate) relay: Vec<Run>,
}

impl Row {
    pub(crate) fn new(scenario: &Scenario, pinning: Pinning) -> Self {
        Self {
            name: scenario.name.clone(),
            syncing: scenario.syncing,
            pinning,
            unit: scenario.unit,
            checks: scenario.checks.clone(),
            ours: Vec::new(),
            reference: Vec::new(),
            relay: Vec::new(),
        }
    }

    /// Ratios of ours to another side, round by round.
    fn ratios(&self, metric: Metric, against: Side) -> Vec<f64> {
        let others = match against {
            Side::Relay => &self.relay,
            _ => &self.reference,
        };
        let pairs = self.ours.iter().zip(others);
        pairs
            .filter_map(|(ours, other)| Some(ours.metric(metric)? / other.metric(metric)?))
            .collect()
    }

    fn main_metric(&self) -> Metric {
        match self.unit {
            Unit::MessagesPerSecond | Unit::MebibytesPerSecond(_) => Metric::Rate,
            Unit::BytesEach => Metric::Memory,
            Unit::Milliseconds => Metric::Seconds,
        }
    }

    /// The main figure of a run in the row's unit.
    fn figure(&self, run: &Run) -> Option<f64> {
        let value = run.metric(self.main_metric())?;
        Some(match self.unit {
            Unit::MebibytesPerSecond(payload) => value * payload as f64 / MEBIBYTE,
            Unit::Milliseconds => value * 1e3,
            Unit::MessagesPerSecond | Unit::BytesEach => value,
        })
    }

    /// Whether the generator was busy most of the time and spends more processor time than our
    /// server: then the throughput is the generator's, and what the server spends per message
    /// counts.
    fn is_generator_bound(&self) -> bool {
        let busy = |run: &Run| Some(run.generator_cpu_seconds / run.seconds);
        let is_busy = median(&self.ours, busy).is_some_and(|share| share > BUSY_SHARE);
        let generator = median(&self.ours, |run| Some(run.generator_cpu_seconds));
        let server = median(&self.ours, |run| run.server_cpu_seconds);
        self.main_metric() == Metric::Rate
            && is_busy
            && generator
                .zip(server)
                .is_some_and(|(generator, server)| generator > server)
    }

    /// The check as it is judged: see [`Row::is_generator_bound`].
    fn judged(&self, check: Check) -> Check {
        match (check.metric, check.against, check.bound) {
            (Metric::Rate, Side::Reference, Bound::AtLeast(ratio)) if self.is_generator_bound() => {
                Check::most(Metric::ServerCpu, 1.0 / ratio)
            }
            _ => check,
        }
    }

    fn verdict(&self, check: Check) -> (Option<f64>, Verdict) {
        // A rate that reaches its target does so whoever was the busier side.
        let by_rate = self.verdict_of(check);
        if by_rate.1 == Verdict::Pass {
            return by_rate;
        }
        self.verdict_of(self.judged(check))
    }

    fn verdict_of(&self, check: Check) -> (Option<f64>, Verdict) {
        let Some(spread) = Spread::of(self.ratios(check.metric, check.against)) else {
            return (None, Verdict::Unknown);
        };
        let is_reached = match check.bound {
            Bound::AtLeast(least) => spread.middle >= least,
            Bound::AtMost(most) => spread.middle <= most,
        };
        let verdict = if is_reached {
            Verdict::Pass
        } else {
            Verdict::Fail
        };
        (Some(spread.middle), verdict)
    }

    /// Whether no target is missed.
    pub(crate) fn passes(&self) -> bool {
        let mut verdicts = self.checks.iter().map(|check| self.verdict(*check).1);
        verdicts.all(|verdict| verdict != Verdict::Fail)
    }

    fn targets_text(&self) -> String {
        let texts: Vec<String> = self
            .checks
            .iter()
            .map(|check| self.target_text(*check))
            .collect();
        if texts.is_empty() {
            "-".to_owned()
        } else {
            texts.join("; ")
        }
    }

    fn target_text(&self, check: Check) -> String {
        let bound = match check.bound {
            Bound::AtLeast(least) => format!("≥ {least}×"),
            Bound::AtMost(most) => format!("≤ {most}×"),
        };
        let against = if check.against == Side::Relay {
            " of the relay"
        } else {
            ""
        };
        let (ratio, verdict) = self.verdict(check);
        let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2}×)"));
        let by_cpu = self.judged(check).metric != check.metric
            && self.verdict_of(check).1 != Verdict::Pass
            && verdict != Verdict::Unknown;
        let result = match (verdict, by_cpu) {
            (Verdict::Pass, false) => format!(": pass{ratio}"),
            (Verdict::Fail, false) => format!(": **FAIL**{ratio}"),
            (Verdict::Pass, true) => format!(": pass by CPU{ratio}"),
            (Verdict::Fail, true) => format!(": **FAIL** by CPU{ratio}"),
            (Verdict::Unknown, _) => String::new(),
        };
        format!("{}{against} {bound}{result}", check.metric.name())
    }

    pub(crate) fn line(&self) -> String {
        let metric = self.main_metric();
        let figure = |runs: &[Run]| {
            median(runs, |run| self.figure(run)).map_or_else(|| "-".to_owned(), number)
        };
        let mut ours = figure(&self.ours);
        let mut reference = figure(&self.reference);
        for (cell, runs) in [(&mut ours, &self.ours), (&mut reference, &self.reference)] {
            if let Some((name, value)) = aside(runs) {
                let _ = write!(cell, " ({} {name})", number(value));
            }
        }
        if let Some(relay) = median(&self.relay, |run| self.figure(run)) {
            let _ = write!(reference, " (relay {})", number(relay));
        }
        let busier = if self.is_generator_bound() {
            " ← busier"
        } else {
            ""
        };
        format!(
            "| {} | {} | {ours} | {reference} | {} | {} | {}{busier} | {} | {} | {} |",
            self.name,
            self.pinning.name(),
            ratio_text(&self.ratios(metric, Side::Reference)),
            self.cpu_text(),
            pair(&self.ours, &self.reference, |run| {
                (run.generator_cpu_seconds > 0.0).then(|| run.generator_cpu_ns())
            }),
            self.latency_text(),
            self.memory_text(),
            self.targets_text(),
        )
    }

    fn cpu_text(&self) -> String {
        let figures = pair(&self.ours, &self.reference, |run| {
            run.server_cpu_ns().filter(|value| value.is_finite())
        });
        match Spread::of(self.ratios(Metric::ServerCpu, Side::Reference)) {
            Some(spread) => format!("{figures} ({:.2}×)", spread.middle),
            None => figures,
        }
    }

    fn memory_text(&self) -> String {
        let mebibytes = |run: &Run| Some(run.peak_memory_bytes? / MEBIBYTE);
        let peak = pair(&self.ours, &self.reference, mebibytes);
        if self.unit == Unit::Milliseconds {
            let resident = pair(&self.ours, &self.reference, |run| {
                Some(run.memory_bytes? / MEBIBYTE)
            });
            return format!("{resident} resident; {peak} peak");
        }
        peak
    }

    fn latency_text(&self) -> String {
        let of = |runs: &[Run]| {
            let middle = |pick: fn(Latency) -> f64| median(runs, |run| run.latency.map(pick));
            let p50 = middle(|latency| latency.p50_us)?;
            let p99 = middle(|latency| latency.p99_us)?;
            let p999 = middle(|latency| latency.p999_us)?;
            Some(format!("{p50:.0}/{p99:.0}/{p999:.0}"))
        };
        match (of(&self.ours), of(&self.reference)) {
            (Some(ours), Some(reference)) => format!("{ours} vs {reference}"),
            (Some(ours), None) => ours,
            _ => "-".to_owned(),
        }
    }
}

fn aside(runs: &[Run]) -> Option<(&'static str, f64)> {
    let name = runs.first()?.aside?.0;
    Some((name, median(runs, |run| run.aside.map(|(_, value)| value))?))
}

fn ratio_text(ratios: &[f64]) -> String {
    Spread::of(ratios.iter().copied()).map_or_else(
        || "-".to_owned(),
        |spread| {
            format!(
                "{:.2}× ({:.2}–{:.2})",
                spread.middle, spread.low, spread.high
            )
        },
    )
}

/// `ours / reference`.
fn pair(ours: &[Run], reference: &[Run], value: impl Fn(&Run) -> Option<f64>) -> String {
    let texts: Vec<String> = [ours, reference]
        .into_iter()
        .filter_map(|runs| median(runs, &value))
        .map(number)
        .collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(" / ")
    }
}

fn median(runs: &[Run], value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    Spread::of(runs.iter().filter_map(value)).map(|spread| spread.middle)
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if value >= 1e4 {
        format!("{:.1} k", value / 1e3)
    } else if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// The first two lines of a table.
pub(crate) const TABLE_HEAD: &str = "| scenario | pinning | ours | reference | ratio (spread) | server CPU ns/message (ratio) | \
     generator CPU ns/message | p50/p99/p99.9 µs | memory MiB | targets |\n\
     |---|---|---|---|---|---|---|---|---|---|\n";

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = TABLE_HEAD.to_owned();
    for row in rows {
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

fn run_json(run: &Run) -> Value {
    json!({
        "messages": run.messages,
        "seconds": run.seconds,
        "messages_per_second": (run.seconds > 0.0).then(|| run.rate()),
        "server_cpu_ns_per_message": run.server_cpu_ns(),
        "generator_cpu_ns_per_message": run.generator_cpu_ns(),
        "latency_us": run.latency.map(|latency| json!({
            "p50": latency.p50_us, "p99": latency.p99_us, "p99.9": latency.p999_us,
        })),
        "memory_bytes": run.memory_bytes,
        "peak_memory_bytes": run.peak_memory_bytes,
        "aside": run.aside.map(|(name, value)| json!({name: value})),
    })
}

pub(crate) fn json(rows: &[Row]) -> Value {
    let list = |runs: &[Run]| -> Vec<Value> { runs.iter().map(run_json).collect() };
    rows.iter()
        .map(|row| {
            let targets: Vec<Value> = row
                .checks
                .iter()
                .map(|check| {
                    let (ratio, verdict) = row.verdict(*check);
                    json!({
                        "target": row.target_text(*check),
                        "ratio": ratio,
                        "verdict": format!("{verdict:?}").to_lowercase(),
                    })
                })
                .collect();
            json!({
                "scenario": row.name,
                "syncing": row.syncing.name(),
                "pinning": row.pinning.name(),
                "ours": list(&row.ours),
                "reference": list(&row.reference),
                "relay": list(&row.relay),
                "ratios": row.ratios(row.main_metric(), Side::Reference),
                "generator_is_busier": row.is_generator_bound(),
                "targets": targets,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Row, Verdict, json, number, table};
    use crate::pin::Pinning;
    use crate::scenario::{Check, Metric, Run, Scenario};

    fn run(rate: u64, server_cpu: f64, generator_cpu: f64) -> Run {
        Run {
            messages: rate,
            seconds: 1.0,
            server_cpu_seconds: Some(server_cpu),
            generator_cpu_seconds: generator_cpu,
            ..Run::default()
        }
    }

    fn row(check: Check, ours: Run, reference: Run) -> Row {
        let scenario = Scenario::new("test", |_| Ok(Run::default())).check(check);
        let mut row = Row::new(&scenario, Pinning::Free);
        row.ours = vec![ours];
        row.reference = vec![reference];
        row
    }

    #[test]
    fn a_missed_rate_fails_where_the_server_is_the_busier_side() {
        let check = Check::least(Metric::Rate, 2.0);
        let row = row(check, run(150, 0.9, 0.5), run(100, 1.0, 0.5));
        assert_eq!(row.verdict(check), (Some(1.5), Verdict::Fail));
        assert!(!row.passes());
        assert!(row.line().contains("rate ≥ 2×: **FAIL** (1.50×)"));
    }

    #[test]
    fn processor_time_counts_where_the_generator_is_the_busier_side() {
        let check = Check::least(Metric::Rate, 2.0);
        let row = row(check, run(150, 0.6, 0.9), run(100, 1.0, 0.5));
        let (ratio, verdict) = row.verdict(check);
        assert_eq!(verdict, Verdict::Pass);
        assert!((ratio.unwrap() - 0.4).abs() < 1e-9);
        let line = row.line();
        assert!(
            line.contains("busier") && line.contains("pass by CPU (0.40×)"),
            "{line}"
        );
    }

    #[test]
    fn without_a_reference_nothing_is_judged() {
        let check = Check::most(Metric::ServerCpu, 0.5);
        let mut row = row(check, run(1, 1.0, 0.0), run(1, 1.0, 0.0));
        row.reference.clear();
        assert_eq!(row.verdict(check), (None, Verdict::Unknown));
        assert!(row.passes());
        let rows = [row];
        assert!(table(&rows).contains("| test | free | 1.0 | - |"));
        let value = json(&rows);
        assert_eq!(value[0]["targets"][0]["verdict"], "unknown");
    }

    #[test]
    fn numbers_have_three_digits_or_so() {
        let texts = [0.0, 12.34, 123.4, 12_345.0, 12_345_678.0].map(number);
        assert_eq!(texts, ["0", "12.3", "123", "12.3 k", "12.35 M"]);
    }
}
