//! Commands on a stopped store: `import`, `export`, `check`, `repair`. Each reads its own words.

mod check;
mod export;
mod import;
mod words;

use millrace_host::{EXIT_FAILURE, EXIT_OK};

/// What was asked for is not a command of ours, or is asked for in a wrong way.
const EXIT_USAGE: i32 = 2;

/// How a command ended that could be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All is well.
    Well,
    /// It did what it could, and something is lost or was left out.
    WithLosses,
}

/// What a command does with its words.
type Command = fn(words::Words) -> Result<Ended, words::Failure>;

/// Runs a command; `None`: there is none of this name.
pub(crate) fn run(program: &str, words: &[String]) -> Option<i32> {
    let (name, rest) = words.split_first()?;
    let (text, command): (&str, Command) = match name.as_str() {
        "import" => (import::USAGE, import::run),
        "export" => (export::USAGE, export::run),
        "check" => (check::USAGE, check::run),
        "repair" => (check::REPAIR_USAGE, check::repair),
        _ => return None,
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        print!("{text}");
        return Some(EXIT_OK);
    }
    let ended = words::Words::parse(rest).and_then(command);
    Some(match ended {
        Ok(Ended::Well) => EXIT_OK,
        Ok(Ended::WithLosses) => EXIT_FAILURE,
        Err(words::Failure::Usage(reason)) => {
            eprintln!("{program} {name}: {reason}\n");
            eprint!("{text}");
            EXIT_USAGE
        }
        Err(words::Failure::Other(reason)) => {
            eprintln!("{program} {name}: {reason}");
            EXIT_FAILURE
        }
    })
}
