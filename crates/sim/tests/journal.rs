//! The journal under power cuts, kills, failing syncs, a full disk and flipped bits: thousands of
//! seeded lives, each compared with a model. A failure prints its seed.

use millrace_clock::Random;
use millrace_sim::disk::{Counters, Knobs};
use millrace_sim::journal_run::{JournalRun, Outcome, Plan};
use millrace_store::journal::{Damage, SyncMode};

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
        total.files_reused += outcome.files_reused;
        total.pieces_filled += outcome.pieces_filled;
        total.durable += outcome.durable;
        total.erased += outcome.erased;
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

/// A file with an earlier life behind it is changed over, and cut short in every step of that; what
/// it held then is never taken for what it holds now.
#[test]
fn an_earlier_life_of_a_file_never_comes_back() {
    let plan = Plan {
        lives: 8,
        turns: 120,
        // Little room: nearly every file has had a life.
        budget_bytes: 200 << 10,
        fill_after_bytes: u64::MAX,
        ..Plan::POWER
    };
    let total = run_all(60_000..60_150, plan);
    assert!(total.files_reused > 500, "{total:?}");
    let zeros_too = Plan {
        fill_after_bytes: 0,
        ..plan
    };
    let total = run_all(61_000..61_150, zeros_too);
    assert!(
        total.files_reused > 500 && total.pieces_filled > 500,
        "{total:?}"
    );
}

/// A process that is killed leaves names that no sync has reached; the next start rested on them.
#[test]
fn a_seed_that_once_failed_passes() {
    let run = JournalRun::new(1_796_092_200_002_332, Plan::POWER).run();
    assert_eq!(run.map(|outcome| outcome.failures), Ok(0));
}

/// Whatever the power does in the middle: once the journal says that an erase is complete, no file
/// holds what was erased, nor does one after any start behind that; all else is there.
#[test]
fn what_was_erased_is_nowhere_on_the_disk_and_nothing_else_is_lost() {
    let total = run_all(70_000..70_200, Plan::ERASE);
    assert!(
        total.erased > 500 && total.files_released > 500,
        "{total:?}"
    );
    let lives = Plan {
        budget_bytes: 200 << 10,
        fill_after_bytes: 0,
        turns: 120,
        ..Plan::ERASE
    };
    let total = run_all(71_000..71_100, lives);
    assert!(total.erased > 500, "{total:?}");
    let lazy = Plan {
        sync: SyncMode::Interval(50_000_000),
        ..Plan::ERASE
    };
    assert!(run_all(72_000..72_080, lazy).erased > 100);
    let failing = Plan {
        knobs: Knobs {
            fail_sync_permille: 8,
            fail_write_permille: 3,
            ..Knobs::POWER
        },
        ..Plan::ERASE
    };
    assert!(run_all(73_000..73_080, failing).erased > 100);
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

/// A run that has lived once, with everything durable and proven.
fn settled(seed: u64, plan: Plan) -> JournalRun {
    let mut run = JournalRun::new(seed, plan);
    run.recover().expect("a new store opens");
    run.live().expect("sound");
    // Deadlines of files being filled lie between those that count.
    for _ in 0..60 {
        run.sleep();
        run.drain().expect("sound");
    }
    assert_eq!(run.waiting(), 0, "seed {seed}: everything is durable");
    run
}

#[test]
fn a_flipped_bit_in_synced_data_is_reported_and_costs_only_what_it_hit() {
    let plan = Plan {
        rewrites: false,
        kill_only: true,
        ..Plan::POWER
    };
    let (mut reported, mut single_records, mut harmless) = (0, 0, 0);
    for seed in 30_000..30_300 {
        let mut run = settled(seed, plan);
        let (before, history) = (run.entries(), run.history());
        let mut random = Random::new(seed);
        let places: Vec<(String, Vec<usize>)> = run
            .disk
            .files()
            .filter(|(path, _)| path.ends_with(".journal"))
            .map(|(path, content)| {
                let used = (0..content.len()).filter(|at| content[*at] != 0);
                (path.to_owned(), used.collect())
            })
            .collect();
        let (path, used) = &places[random.below(places.len() as u64) as usize];
        let at = used[random.below(used.len() as u64) as usize];
        run.disk.kill();
        assert!(run.disk.flip_bit(path, at as u64, random.below(8) as u32));
        // Without a report, recovery itself has compared with everything that was durable.
        let report = run
            .recover()
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        let after = run.entries();
        for (place, payload) in &after {
            assert_eq!(
                history.get(place),
                Some(payload),
                "seed {seed}: {place:?} was altered"
            );
        }
        let lost = before
            .keys()
            .filter(|place| !after.contains_key(place))
            .count();
        match report.as_slice() {
            [] => harmless += 1,
            [Damage::Record { .. }] => {
                assert!(lost <= 1, "seed {seed}: {lost} entries lost for one record");
                single_records += 1;
            }
            _ => assert!(lost < 64, "seed {seed}: {lost} entries lost for one frame"),
        }
        reported += usize::from(!report.is_empty());
    }
    assert!(
        reported > 100 && single_records > 50 && harmless > 0,
        "{reported} {single_records}"
    );
}

#[test]
fn a_full_disk_lets_small_work_go_on_and_ends_when_checkpoints_make_room() {
    let knobs = Knobs {
        capacity_bytes: 7 * (64 << 10),
        ..Knobs::default()
    };
    let plan = Plan {
        knobs,
        budget_bytes: 1 << 30,
        turns: 2000,
        ..Plan::POWER
    };
    let mut counters = Counters::default();
    for seed in 40_000..40_040 {
        let mut run = JournalRun::new(seed, plan);
        run.recover().expect("a new store opens");
        for _ in 0..1000 {
            run.live().expect("sound");
            if run.is_full() {
                break;
            }
        }
        assert!(run.is_full(), "seed {seed}");
        let settle = |run: &mut JournalRun| {
            for _ in 0..60 {
                run.drain().expect("sound");
                run.sleep();
            }
        };
        settle(&mut run);
        assert_eq!(
            run.waiting(),
            0,
            "seed {seed}: the reserve takes what is under way"
        );
        run.checkpoint_all();
        settle(&mut run);
        assert_eq!(run.waiting(), 0, "seed {seed}: checkpoints too");
        assert!(!run.is_full(), "seed {seed}: there is room again");
        counters.add(&run.outcome().counters);
        run.recover()
            .unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    assert_eq!(counters.idle_knobs(&knobs), Vec::<&str>::new());
}

/// Again and again, with less and less: what the reserve was for is done, the server stops, starts, and
/// what makes room is still taken.
#[test]
fn a_start_on_a_full_disk_finds_room_in_what_was_reserved_and_not_used() {
    let knobs = Knobs {
        capacity_bytes: 7 * (64 << 10),
        ..Knobs::POWER
    };
    let plan = Plan {
        knobs,
        budget_bytes: 1 << 30,
        turns: 2000,
        ..Plan::POWER
    };
    let (mut starts, mut counters) = (0, Counters::default());
    for seed in 70_000..70_040 {
        let mut run = JournalRun::new(seed, plan);
        let sound = |result: Result<Vec<Damage>, String>| {
            let report = result.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
            assert_eq!(report, Vec::new(), "seed {seed}");
        };
        sound(run.recover());
        for _ in 0..6 {
            for _ in 0..1000 {
                if run.is_full() {
                    break;
                }
                run.live().expect("sound");
            }
            assert!(run.is_full(), "seed {seed}");
            run.die();
            sound(run.recover());
            run.sleep();
            run.drain().expect("sound");
        }
        let settle = |run: &mut JournalRun| {
            for _ in 0..60 {
                run.drain().expect("sound");
                run.sleep();
            }
        };
        run.checkpoint_all();
        settle(&mut run);
        assert_eq!(run.waiting(), 0, "seed {seed}: checkpoints are taken");
        assert!(!run.is_full(), "seed {seed}: there is room again");
        let outcome = run.outcome();
        assert_eq!(outcome.starts_without_room, 0, "seed {seed}");
        starts += outcome.recoveries;
        counters.add(&outcome.counters);
    }
    assert!(starts >= 40 * 7, "{starts}");
    assert_eq!(counters.idle_knobs(&knobs), Vec::<&str>::new());
}

#[test]
fn payloads_are_read_back_from_where_the_journal_says() {
    let mut read = 0;
    for seed in 50_000..50_040 {
        read += settled(seed, Plan::POWER)
            .read_back()
            .expect("the same bytes");
    }
    assert!(read > 500);
}
