//! `-sl COMMAND[=TARGET]`: sends a signal to a running server.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

/// Sends what `command` says. `TARGET` is a process id, the start of one followed by `*`, or the
/// path of a pid file; without it the only other process of this name is meant.
pub(crate) fn send(command: &str, program: &str) -> Result<(), String> {
    let parts: Vec<&str> = command.split('=').collect();
    let (name, target) = match parts.as_slice() {
        [name] => (*name, None),
        [name, target] => (*name, Some(*target)),
        [_, _, rest @ ..] => {
            return Err(format!("invalid signal parameters: {rest:?}").replace('"', ""));
        }
        [] => return Err("invalid signal parameters: []".to_owned()),
    };
    let pids = match target {
        Some(target) if !target.is_empty() => targets(target, program)?,
        _ => vec![only_running(program)?],
    };
    let signal = signal_of(name)?;
    let mut failures = Vec::new();
    for pid in pids {
        if let Err(error) = kill_process(pid, signal) {
            failures.push(format!(
                "failed to send signal to pid {}: {error}",
                pid.as_raw_nonzero()
            ));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}

fn signal_of(name: &str) -> Result<Signal, String> {
    Ok(match name {
        "stop" => Signal::KILL,
        "quit" => Signal::INT,
        "term" => Signal::TERM,
        "reopen" => Signal::USR1,
        "reload" => Signal::HUP,
        "ldm" => Signal::USR2,
        _ => return Err(format!("unknown signal {name:?}")),
    })
}

fn targets(target: &str, program: &str) -> Result<Vec<Pid>, String> {
    if let Some(prefix) = target.strip_suffix('*') {
        let found = running(program)?;
        let matching: Vec<Pid> = found
            .into_iter()
            .filter(|pid| pid.as_raw_nonzero().to_string().starts_with(prefix))
            .collect();
        if matching.is_empty() {
            return Err(format!("no {program} processes running"));
        }
        return Ok(matching);
    }
    let text = match std::fs::read_to_string(target) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => target.to_owned(),
    };
    Ok(vec![
        pid_of(&text).ok_or_else(|| format!("invalid pid: {text}"))?,
    ])
}

fn pid_of(text: &str) -> Option<Pid> {
    text.parse()
        .ok()
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw)
}

fn only_running(program: &str) -> Result<Pid, String> {
    let found = running(program)?;
    match found.as_slice() {
        [] => Err(format!("no {program} processes running")),
        [pid] => Ok(*pid),
        several => {
            let lines: Vec<String> = several
                .iter()
                .map(|pid| pid.as_raw_nonzero().to_string())
                .collect();
            Err(format!(
                "multiple {program} processes running:\n{}",
                lines.join("\n")
            ))
        }
    }
}

/// Processes of this name besides our own, asked from `pgrep` as the reference does.
fn running(program: &str) -> Result<Vec<Pid>, String> {
    let output = Command::new("pgrep")
        .args(["-x", program])
        .output()
        .map_err(|error| format!("unable to resolve pid, try providing one: {error}"))?;
    let own = rustix::process::getpid();
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(pid_of)
        .filter(|pid| *pid != own)
        .collect())
}
