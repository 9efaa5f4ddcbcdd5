//! Runs seeds of the simulator: `sim [journal|node|flips] [--seed N] [--count M] [--seconds S] [--trace]`.
//! Without a workload all run. `--seconds` ends a workload earlier. Failing seeds are printed with
//! the command that runs them again, and the status is then 1.

use millrace_sim::disk::{Counters, Knobs};
use millrace_sim::journal_run::{JournalRun, Plan};
use millrace_sim::node_run::{NodeOutcome, NodePlan, NodeRun};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Failing seeds after which a run ends.
const FAILURES_MAX: u32 = 20;

struct Arguments {
    workload: Option<String>,
    seed: u64,
    count: u64,
    /// How long a workload may take; `None`: as long as its seeds need.
    time: Option<Duration>,
    trace: bool,
}

fn arguments() -> Option<Arguments> {
    let mut parsed = Arguments {
        workload: None,
        seed: 0,
        count: 1,
        time: None,
        trace: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => parsed.trace = true,
            "journal" | "node" | "flips" => parsed.workload = Some(word),
            "--seed" => parsed.seed = words.next()?.parse().ok()?,
            "--count" => parsed.count = words.next()?.parse().ok()?,
            "--seconds" => parsed.time = Some(Duration::from_secs(words.next()?.parse().ok()?)),
            _ => return None,
        }
    }
    Some(parsed)
}

/// Runs all seeds of one workload.
fn run_all(
    name: &str,
    arguments: &Arguments,
    mut run: impl FnMut(u64) -> Result<Counters, String>,
) -> Result<(), String> {
    let (mut counters, mut failed, mut done) = (Counters::default(), 0, 0);
    let begun = Instant::now();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        if arguments.time.is_some_and(|time| begun.elapsed() >= time) {
            break;
        }
        done += 1;
        match run(seed) {
            Ok(ran) => counters.add(&ran),
            Err(wrong) => {
                let again = format!("cargo xtask sim {name} --seed {seed} --count 1");
                eprintln!("{name}: seed {seed}: {wrong}\nagain with: {again}");
                failed += 1;
            }
        }
        if failed >= FAILURES_MAX {
            break;
        }
    }
    if failed > 0 {
        return Err(format!("{name}: {failed} seeds failed"));
    }
    println!("{name}: {done} seeds from {}: {counters:?}", arguments.seed);
    Ok(())
}

/// Every third seed also has syncs that fail.
fn knobs(seed: u64) -> Knobs {
    Knobs {
        fail_sync_permille: if seed % 3 == 2 { 5 } else { 0 },
        ..Knobs::POWER
    }
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: sim [journal|node|flips] [--seed N] [--count M] [--seconds S] [--trace]");
        return ExitCode::FAILURE;
    };
    let journal = |seed| {
        let plan = Plan {
            knobs: knobs(seed),
            ..Plan::POWER
        };
        JournalRun::new(seed, plan)
            .run()
            .map(|outcome| outcome.counters)
    };
    let mut total = NodeOutcome::default();
    let mut node = |seed, plan| {
        let outcome = NodeRun::new(seed, plan).traced(arguments.trace).run()?;
        total.add(&outcome);
        Ok(outcome.counters)
    };
    let asked = |name: &str| arguments.workload.as_deref().is_none_or(|one| one == name);
    let mut result = Ok(());
    if asked("journal") {
        result = run_all("journal", &arguments, journal);
    }
    if result.is_ok() && asked("node") {
        result = run_all("node", &arguments, |seed| {
            node(seed, NodePlan::of_seed(seed))
        });
    }
    if result.is_ok() && asked("flips") {
        result = run_all("flips", &arguments, |seed| node(seed, NodePlan::flips()));
    }
    println!("{total:?}");
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}
