//! The whole server under power cuts: what was acknowledged is there, batches are whole, nothing
//! comes back. A failure prints its seed.

use millrace_sim::disk::{Counters, Knobs};
use millrace_sim::node_run::{NodeOutcome, NodePlan, NodeRun};

fn run_all(seeds: std::ops::Range<u64>, plan: NodePlan) -> NodeOutcome {
    let mut total = NodeOutcome::default();
    let mut counters = Counters::default();
    for seed in seeds {
        let outcome = NodeRun::new(seed, plan)
            .run()
            .unwrap_or_else(|wrong| panic!("seed {seed} of {plan:?}: {wrong}"));
        counters.add(&outcome.counters);
        total.acknowledged += outcome.acknowledged;
        total.batches += outcome.batches;
        total.deletes += outcome.deletes;
        total.starts += outcome.starts;
        total.journal_failures += outcome.journal_failures;
    }
    assert_eq!(
        counters.idle_knobs(&plan.knobs),
        Vec::<&str>::new(),
        "faults that never happened"
    );
    total
}

#[test]
fn a_server_keeps_what_it_acknowledged_through_power_cuts() {
    let total = run_all(0..40, NodePlan::POWER);
    assert!(
        total.acknowledged > 1000 && total.batches > 50 && total.deletes > 50,
        "{total:?}"
    );
}

#[test]
fn a_server_outlives_failing_syncs() {
    let knobs = Knobs {
        fail_sync_permille: 4,
        ..Knobs::POWER
    };
    let total = run_all(
        1_000..1_020,
        NodePlan {
            knobs,
            ..NodePlan::POWER
        },
    );
    assert!(
        total.acknowledged > 500 && total.journal_failures > 0,
        "{total:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let run = || NodeRun::new(seed, NodePlan::POWER).run();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn a_full_disk_refuses_publishes_and_takes_them_again_when_there_is_room() {
    let mut counters = Counters::default();
    let knobs = Knobs {
        capacity_bytes: 512 << 10,
        ..Knobs::default()
    };
    for seed in 2_000..2_005 {
        let plan = NodePlan {
            knobs,
            streams: 1,
            ..NodePlan::POWER
        };
        let mut run = NodeRun::new(seed, plan);
        run.fill_and_purge()
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        counters.add(&run.counters());
    }
    assert_eq!(counters.idle_knobs(&knobs), Vec::<&str>::new());
}
