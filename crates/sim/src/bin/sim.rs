//! Runs seeds of the simulator: `sim [journal|node] [--seed N] [--count M]`. Without a workload both
//! run. A failing seed is printed and ends the run with status 1.

use millrace_sim::disk::{Counters, Knobs};
use millrace_sim::journal_run::{JournalRun, Plan};
use millrace_sim::node_run::{NodePlan, NodeRun};
use std::process::ExitCode;

struct Arguments {
    journal: bool,
    node: bool,
    seed: u64,
    count: u64,
}

fn arguments() -> Option<Arguments> {
    let mut parsed = Arguments {
        journal: true,
        node: true,
        seed: 0,
        count: 1,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "journal" => parsed.node = false,
            "node" => parsed.journal = false,
            "--seed" => parsed.seed = words.next()?.parse().ok()?,
            "--count" => parsed.count = words.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(parsed)
}

/// Runs all seeds of one workload.
fn run_all(
    name: &str,
    arguments: &Arguments,
    run: impl Fn(u64) -> Result<Counters, String>,
) -> Result<(), String> {
    let mut counters = Counters::default();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        let ran = run(seed).map_err(|wrong| {
            format!(
                "{name}: seed {seed}: {wrong}\nagain with: cargo xtask sim {name} --seed {seed}"
            )
        })?;
        counters.add(&ran);
    }
    println!(
        "{name}: {} seeds from {}: {counters:?}",
        arguments.count, arguments.seed
    );
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
        eprintln!("usage: sim [journal|node] [--seed N] [--count M]");
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
    let node = |seed| {
        let plan = NodePlan {
            knobs: knobs(seed),
            ..NodePlan::POWER
        };
        NodeRun::new(seed, plan)
            .run()
            .map(|outcome| outcome.counters)
    };
    let mut result = Ok(());
    if arguments.journal {
        result = run_all("journal", &arguments, journal);
    }
    if result.is_ok() && arguments.node {
        result = run_all("node", &arguments, node);
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}
