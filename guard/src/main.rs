//! The hot paths of the pure rooms on fixed inputs, to be run under an instruction counter:
//! `guard SCENARIO COUNT` does COUNT messages of one path, `guard --list` names the paths with a
//! COUNT that suits each. What a run costs besides its messages does not depend on COUNT, so the
//! difference of two runs is the cost of the messages alone. Counting, and comparing with the
//! committed figures, is `cargo xtask bench-guard`; how fast a whole server is, `bench/` says.

mod broker;
mod interest;
mod jetstream;
mod journal;
mod protocol;

use std::process::ExitCode;

/// A path: its name, how many messages make its figure steady, and the run.
type Scenario = (&'static str, u64, fn(u64));

const SCENARIOS: &[Scenario] = &[
    ("parse_pub", 20_000, protocol::parse_pub),
    ("parse_hpub", 20_000, protocol::parse_hpub),
    ("parse_sub", 20_000, protocol::parse_sub),
    ("encode_msg", 20_000, protocol::encode_msg),
    ("encode_hmsg", 20_000, protocol::encode_hmsg),
    ("match_literal", 20_000, interest::literal),
    ("match_wildcard", 20_000, interest::wildcard),
    ("publish_1_to_1", 10_000, broker::one_to_one),
    ("publish_500_subjects", 10_000, broker::many_subjects),
    ("publish_fan_out_8", 5_000, broker::fan_out),
    ("publish_queue_of_8", 5_000, broker::queue_group),
    ("publish_to_endpoint", 5_000, broker::to_endpoint),
    ("publish_fresh_subjects", 5_000, broker::fresh_subjects),
    ("journal_append", 5_000, journal::append),
    ("stream_publish", 4_000, jetstream::publish),
    ("stream_publish_checked", 4_000, jetstream::publish_checked),
    ("stream_replay", 4_000, jetstream::replay),
    ("batch_of_100", 4_000, jetstream::batches),
    ("pull_and_ack", 4_000, jetstream::pull_and_ack),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--list"] => {
            for (name, count, _) in SCENARIOS {
                println!("{name}\t{count}");
            }
            return ExitCode::SUCCESS;
        }
        [name, count] => {
            let found = SCENARIOS.iter().find(|(known, ..)| known == name);
            if let (Some((_, _, run)), Ok(count)) = (found, count.parse()) {
                run(count);
                return ExitCode::SUCCESS;
            }
        }
        _ => {}
    }
    eprintln!("usage: guard --list | guard SCENARIO COUNT");
    ExitCode::FAILURE
}
