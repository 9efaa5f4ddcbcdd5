//! Millrace's load generator: measures a server, or two side by side in one run.
//!
//! `cargo run --release -p bench -- --reference PATH` starts this build's `millrace` and the given
//! server in turn (A B A B …) on loopback, with data folders on the same disk, and prints
//! throughput, server CPU time per message, the ratio ours/reference and its spread. The generator
//! writes and reads in large blocks and counts without parsing what it need not parse, so that it
//! costs less per message than a server. Results that count stand in `docs/performance.md`.

mod client;
mod report;
mod scenario;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: bench [--reference PATH] [--millrace PATH] [--rounds N] [--scale F]
             [--scenario NAME] [--data DIR] [--json] [--list]

  --reference PATH   the server to compare with; without it only ours is measured
  --millrace PATH    our server (default: target/release/millrace)
  --rounds N         measurements of each server and scenario (default 3)
  --scale F          multiplies the number of messages (default 1.0)
  --scenario NAME    only scenarios whose name contains NAME
  --data DIR         where data folders are made (default: target/bench)
  --json             print results as JSON
  --list             print the names of the scenarios
";

/// What the command line asks for.
struct Arguments {
    reference: Option<PathBuf>,
    millrace: PathBuf,
    rounds: usize,
    scale: f64,
    scenario: String,
    data: PathBuf,
    json: bool,
    list: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        reference: None,
        millrace: PathBuf::from("target/release/millrace"),
        rounds: 3,
        scale: 1.0,
        scenario: String::new(),
        data: PathBuf::from("target/bench"),
        json: false,
        list: false,
    };
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word} needs a value\n{USAGE}"))
        };
        match word.as_str() {
            "--reference" => arguments.reference = Some(PathBuf::from(value()?)),
            "--millrace" => arguments.millrace = PathBuf::from(value()?),
            "--rounds" => arguments.rounds = value()?.parse().map_err(|_| USAGE.to_owned())?,
            "--scale" => arguments.scale = value()?.parse().map_err(|_| USAGE.to_owned())?,
            "--scenario" => arguments.scenario = value()?,
            "--data" => arguments.data = PathBuf::from(value()?),
            "--json" => arguments.json = true,
            "--list" => arguments.list = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(arguments)
}

/// Runs what was asked for; false if a target was missed.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let scenarios: Vec<_> = scenario::all()
        .into_iter()
        .filter(|scenario| scenario.name.contains(&arguments.scenario))
        .collect();
    if arguments.list {
        for scenario in &scenarios {
            println!("{}", scenario.name);
        }
        return Ok(true);
    }
    let mut rows = Vec::new();
    for scenario in &scenarios {
        let mut row = report::Row::new(scenario);
        for _ in 0..arguments.rounds {
            row.ours
                .push(measure(scenario, &arguments.millrace, arguments)?);
            if let Some(reference) = &arguments.reference {
                row.reference.push(measure(scenario, reference, arguments)?);
            }
        }
        eprintln!("{}", row.line());
        rows.push(row);
    }
    if arguments.json {
        println!("{}", report::json(&rows));
    } else {
        println!("{}", report::table(&rows));
    }
    Ok(rows.iter().all(report::Row::passes))
}

fn measure(
    scenario: &scenario::Scenario,
    binary: &std::path::Path,
    arguments: &Arguments,
) -> Result<report::Measurement, String> {
    let server = server::Server::start(binary, &arguments.data)?;
    let run = (scenario.run)(&server, arguments.scale)
        .map_err(|error| format!("{} on {}: {error}", scenario.name, binary.display()))?;
    Ok(report::Measurement {
        run,
        peak_memory_bytes: server.peak_memory_bytes(),
    })
}
