//! The journal under power cuts, kills, failing syncs, a full disk and flipped bits: thousands of
//! seeded lives, each compared with a model. A failure prints its seed.

use millrace_sim::disk::{Counters, Knobs};
use millrace_sim::journal_run::{JournalRun, Outcome, Plan};
use millrace_store::journal::SyncMode;

/// Runs the seeds and adds up what happened; every fault that was turned on must have fired.
fn run_all(seeds: std::ops::Range<u64>, plan: Plan) -> Outcome {
    let mut total = Outcome::default();
    let mut counters = Counters::default();
    for seed in seeds {
        let outcome = JournalRun::new(seed, plan)
            .run()
            .unwrap_or_else(|wrong| panic!("seed {seed} of {plan:?}: {wrong}"));
        counters.add(&outcome.counters);
        total.recoveries_cut += outcome.recoveries_cut;
        total.failures += outcome.failures;
        total.files_released += outcome.files_released;
        total.durable += outcome.durable;
    }
    assert_eq!(
        counters.idle_knobs(&plan.knobs),
        Vec::<&str>::new(),
        "faults that never happened"
    );
    assert!(total.durable > 0);
    total.counters = counters;
    total
}

#[test]
fn what_was_reported_durable_survives_power_cuts() {
    let total = run_all(0..300, Plan::POWER);
    assert!(
        total.recoveries_cut > 0 && total.files_released > 0,
        "{total:?}"
    );
}

#[test]
fn a_failed_sync_loses_nothing_that_was_acknowledged() {
    let knobs = Knobs {
        fail_sync_permille: 8,
        fail_write_permille: 3,
        ..Knobs::POWER
    };
    let total = run_all(
        10_000..10_150,
        Plan {
            knobs,
            ..Plan::POWER
        },
    );
    assert!(total.failures > 0);
}

#[test]
fn lazy_syncing_survives_kills_and_loses_only_a_tail_with_the_power() {
    let sync = SyncMode::Interval(50_000_000);
    run_all(
        20_000..20_080,
        Plan {
            sync,
            ..Plan::POWER
        },
    );
    let knobs = Knobs {
        reorder: true,
        ..Knobs::default()
    };
    run_all(
        21_000..21_060,
        Plan {
            sync,
            knobs,
            kill_only: true,
            ..Plan::POWER
        },
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..25 {
        let run = || JournalRun::new(seed, Plan::POWER).run().expect("sound");
        assert_eq!(run(), run(), "seed {seed}");
    }
}
