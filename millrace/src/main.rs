//! The binary: command line in, exit code out. What runs is in `millrace_host`.
//!
//! Called under the name `nats-server` it stands in for the reference: same defaults, same answer
//! to `--version`. Called under any other name it starts with JetStream on when nothing else is
//! said, and tells its own version.

mod commands;
mod explain;
mod load;
mod signal;
mod usage;

use std::process::ExitCode;

use load::Program;
use millrace_auth::Authenticator;
use millrace_config::{FlagError, Flags};
use millrace_host::{EXIT_FAILURE, EXIT_OK, RunContext};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|text| text.to_string_lossy().into_owned());
    let program = Program::called_as(&arguments.next().unwrap_or_default());
    let code = match Flags::parse(arguments) {
        Ok(flags) => answer(&program, flags),
        Err(error) => wrong_flags(&program, &error),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The reference prints the usage and ends with success, which scripts may rely on.
fn wrong_flags(program: &Program, error: &FlagError) -> i32 {
    eprintln!("{error}");
    print!("{}", usage::text(program.name()));
    EXIT_OK
}

fn fail(program: &Program, reason: &str) -> i32 {
    eprintln!("{}: {reason}", program.name());
    EXIT_FAILURE
}

/// Does what the command line asks for, in the reference's order of precedence.
fn answer(program: &Program, flags: Flags) -> i32 {
    let word = flags.words.first().map(String::as_str);
    if flags.is_on("v") {
        println!("{}", program.version());
        return EXIT_OK;
    }
    if flags.is_on("h") {
        print!("{}", usage::text(program.name()));
        return EXIT_OK;
    }
    if flags.is_on("help_tls") {
        print!("{}", usage::TLS);
        return EXIT_OK;
    }
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("version") => {
            println!("{}", program.version());
            return EXIT_OK;
        }
        Some("help") => {
            print!("{}", usage::text(program.name()));
            return EXIT_OK;
        }
        Some("explain") => {
            return match explain::run(flags.words.get(1..).unwrap_or_default()) {
                Ok(()) => EXIT_OK,
                Err(reason) => fail(program, &reason),
            };
        }
        Some(_) => {
            if let Some(code) = commands::run(program.name(), &flags.words) {
                return code;
            }
            let word = word.unwrap_or_default();
            return fail(program, &format!("unrecognized command: {word:?}"));
        }
        None => {}
    }
    if let Some(command) = flags.text("sl") {
        return match signal::send(command, program.name()) {
            Ok(()) => EXIT_OK,
            Err(reason) => fail(program, &reason),
        };
    }
    if flags.is_on("t") {
        return test_config(program, &flags);
    }
    start(program, flags)
}

/// `-t`: syntax and keys only, so that a file can be tested on another machine.
fn test_config(program: &Program, flags: &Flags) -> i32 {
    let Some(path) = flags.text("c") else {
        return fail(
            program,
            "must specify [-c, --config] option to check configuration file syntax",
        );
    };
    match load::file(path) {
        Ok((options, warnings)) if warnings.is_empty() => {
            let digest = options.config_digest;
            let name = program.name();
            eprintln!("{name}: configuration file {path} is valid ({digest})");
            for line in options.inactive.lines() {
                eprintln!("{name}: {line}");
            }
            EXIT_OK
        }
        Ok((_, warnings)) => {
            let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            fail(program, &lines.join("\n"))
        }
        Err(reason) => fail(program, &reason),
    }
}

fn start(program: &Program, flags: Flags) -> i32 {
    let (options, warnings) = match load::options(program, &flags) {
        Ok(loaded) => loaded,
        Err(reason) => return fail(program, &reason),
    };
    let mut log_lines = Vec::new();
    for warning in &warnings {
        eprintln!("{warning}");
        // On standard error it was said already.
        if options.log.file.is_some() {
            log_lines.push(warning.to_string());
        }
    }
    if Authenticator::new(&options).has_plain_passwords() {
        log_lines.push("Plaintext passwords detected, use nkeys or bcrypt".to_owned());
    }
    let context = RunContext {
        program: program.name().to_owned(),
        reload: load::reload(program, flags, &options),
        warnings: log_lines,
    };
    millrace_host::run(options, context)
}
