//! Millrace's load generator: measures a server, or two side by side in one run.
//!
//! `cargo run --release -p bench -- --reference PATH` starts this build's `millrace` and the given
//! server in turn (A B A B …) on loopback, with data folders on the same disk, and prints
//! throughput, processor time per message, latency, memory, and the ratio ours/reference with its
//! spread. The generator writes and reads in large blocks and counts without copying, so that it
//! costs less per message than a server. Results that count stand in `docs/performance.md`.

mod arguments;
mod control;
mod document;
mod engine;
mod frames;
mod interrupt;
mod pin;
mod relay;
mod report;
mod roles;
mod runner;
mod scenario;
mod scenarios;
mod server;
mod statistics;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = if words.iter().map(String::as_str).eq(["relay"]) {
        relay::run().map(|()| true)
    } else {
        Arguments::parse(words.into_iter()).and_then(|arguments| run(&arguments))
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // A target was missed.
        Ok(false) => ExitCode::from(2),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; false if a target was missed.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let scenarios: Vec<_> = scenarios::all()
        .into_iter()
        .filter(|scenario| arguments.picks(&scenario.name, scenario.is_apart))
        .collect();
    if scenarios.is_empty() {
        return Err("no scenario has such a name; see --list".to_owned());
    }
    if arguments.list {
        for scenario in &scenarios {
            println!("{}", scenario.name);
        }
        return Ok(true);
    }
    interrupt::install()?;
    let runner::Measured { rows, failures } = runner::run(arguments, &scenarios)?;
    if let Some(path) = &arguments.json_file {
        std::fs::write(path, report::json(&rows).to_string()).map_err(control::text)?;
    }
    if let Some(path) = &arguments.document {
        document::update(path, &rows)?;
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        println!("{}", report::table(&rows));
    }
    if failures.is_empty() {
        Ok(rows.iter().all(report::Row::passes))
    } else {
        Err(format!("not measured:\n{}", failures.join("\n")))
    }
}
