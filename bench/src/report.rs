//! Tables and JSON of what was measured.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::scenario::{Run, Scenario, Target};

/// One run and the server's peak memory in it.
pub(crate) struct Measurement {
    pub(crate) run: Run,
    pub(crate) peak_memory_bytes: u64,
}

impl Measurement {
    fn messages_per_second(&self) -> f64 {
        self.run.messages as f64 / self.run.seconds
    }

    fn cpu_ns_per_message(&self) -> f64 {
        self.run.server_cpu_seconds * 1e9 / self.run.messages as f64
    }

    /// What the scenario is about: a rate, or a size in MiB.
    fn value(&self) -> f64 {
        match self.run.memory_bytes {
            Some(bytes) => bytes as f64 / f64::from(1 << 20),
            None => self.messages_per_second(),
        }
    }
}

/// A scenario with the measurements of both servers, in the order in which they were taken.
pub(crate) struct Row {
    name: &'static str,
    target: Target,
    pub(crate) ours: Vec<Measurement>,
    pub(crate) reference: Vec<Measurement>,
}

impl Row {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name,
            target: scenario.target,
            ours: Vec::new(),
            reference: Vec::new(),
        }
    }

    /// Ratios ours/reference round by round, ascending.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.ours.iter().zip(&self.reference);
        let mut ratios: Vec<f64> = pairs
            .map(|(ours, reference)| ours.value() / reference.value())
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Whether the median reaches the target; true where nothing can be said.
    pub(crate) fn passes(&self) -> bool {
        match self.target {
            Target::None => true,
            Target::Throughput(_) if self.reference.is_empty() => true,
            Target::Throughput(least) => middle(&self.ratios()) >= least,
            Target::MemoryBytes(most) => {
                median(&self.ours, Measurement::value) * f64::from(1 << 20) <= most as f64
            }
        }
    }

    fn target_text(&self) -> String {
        match self.target {
            Target::None => "-".to_owned(),
            Target::Throughput(least) => format!("≥ {least}×"),
            Target::MemoryBytes(most) => format!("≤ {} MiB", most >> 20),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.target, self.passes()) {
            (Target::None, _) => "-",
            (Target::Throughput(_), _) if self.reference.is_empty() => "-",
            (_, true) => "pass",
            (_, false) => "FAIL",
        }
    }

    pub(crate) fn line(&self) -> String {
        let ratios = self.ratios();
        let ratio = match (ratios.first(), ratios.last()) {
            (Some(low), Some(high)) => format!("{:.2}× ({low:.2}–{high:.2})", middle(&ratios)),
            _ => "-".to_owned(),
        };
        format!(
            "| {} | {} | {} | {} | {:.0} | {:.0} | {} | {:.1} | {:.1} | {} | {} |",
            self.name,
            number(median(&self.ours, Measurement::value)),
            number(median(&self.reference, Measurement::value)),
            ratio,
            median(&self.ours, Measurement::cpu_ns_per_message),
            median(&self.reference, Measurement::cpu_ns_per_message),
            self.latency_text(),
            median(&self.ours, |one| one.peak_memory_bytes as f64
                / f64::from(1 << 20)),
            median(&self.reference, |one| one.peak_memory_bytes as f64
                / f64::from(1 << 20)),
            self.target_text(),
            self.verdict(),
        )
    }

    fn latency_text(&self) -> String {
        let of = |list: &[Measurement]| {
            let halves: Vec<_> = list.iter().filter_map(|one| one.run.latency_us).collect();
            let (mut low, mut high): (Vec<f64>, Vec<f64>) = halves.into_iter().unzip();
            low.sort_by(f64::total_cmp);
            high.sort_by(f64::total_cmp);
            (!low.is_empty()).then(|| format!("{:.0}/{:.0}", middle(&low), middle(&high)))
        };
        match (of(&self.ours), of(&self.reference)) {
            (Some(ours), Some(reference)) => format!("{ours} vs {reference}"),
            (Some(ours), None) => ours,
            _ => "-".to_owned(),
        }
    }
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| scenario | ours (msg/s or MiB) | reference | ratio (spread) | CPU ns/msg | reference | p50/p99 µs | peak MiB | reference | target | |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let _ = writeln!(text, "{}", row.line());
    }
    text
}

pub(crate) fn json(rows: &[Row]) -> Value {
    let list = |measurements: &[Measurement]| -> Vec<Value> {
        measurements
            .iter()
            .map(|one| {
                json!({
                    "messages": one.run.messages,
                    "seconds": one.run.seconds,
                    "messages_per_second": one.messages_per_second(),
                    "server_cpu_ns_per_message": one.cpu_ns_per_message(),
                    "latency_us": one.run.latency_us.map(|(p50, p99)| json!({"p50": p50, "p99": p99})),
                    "memory_bytes": one.run.memory_bytes,
                    "peak_memory_bytes": one.peak_memory_bytes,
                })
            })
            .collect()
    };
    rows.iter()
        .map(|row| {
            json!({
                "scenario": row.name,
                "ours": list(&row.ours),
                "reference": list(&row.reference),
                "ratios": row.ratios(),
                "target": row.target_text(),
                "verdict": row.verdict(),
            })
        })
        .collect()
}

fn median(list: &[Measurement], value: impl Fn(&Measurement) -> f64) -> f64 {
    let mut values: Vec<f64> = list.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    middle(&values)
}

/// The middle of ascending values; 0 of none.
fn middle(values: &[f64]) -> f64 {
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if value >= 1e4 {
        format!("{:.0} k", value / 1e3)
    } else {
        format!("{value:.1}")
    }
}
