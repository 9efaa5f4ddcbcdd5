//! The binary. For now it knows only the flags that a first start needs; the whole command line
//! comes with `millrace_config`'s flags.

use millrace_config::Options;
use millrace_host::{EXIT_FAILURE, RunContext};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let called = arguments.next().unwrap_or_default();
    let program = called.rsplit('/').next().unwrap_or("millrace").to_owned();
    let options = match read(arguments) {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{program}: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let context = RunContext {
        program,
        reload: None,
        warnings: Vec::new(),
    };
    let code = millrace_host::run(options, context);
    ExitCode::from(u8::try_from(code).unwrap_or(EXIT_FAILURE as u8))
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        let flag = argument.trim_start_matches('-');
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{flag}"))
        };
        match flag {
            "js" | "jetstream" => options.jetstream.enabled = true,
            "D" => options.log.debug = true,
            "V" => options.log.trace = true,
            "DV" => (options.log.debug, options.log.trace) = (true, true),
            "a" | "addr" => options.client.host = value()?,
            "sd" | "store_dir" => options.jetstream.store_dir = Some(value()?),
            "n" | "name" | "server_name" => options.server_name = Some(value()?),
            "P" | "pid" => options.pid_file = Some(value()?),
            "l" | "log" => options.log.file = Some(value()?),
            "ports_file_dir" => options.ports_file_dir = Some(value()?),
            "p" | "port" => options.client.port = number(&value()?)?,
            "m" | "http_port" => options.monitor.http_port = number(&value()?)?,
            _ => return Err(format!("flag provided but not defined: -{flag}")),
        }
    }
    Ok(options)
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("invalid value {text:?}"))
}
