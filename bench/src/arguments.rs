//! The command line.

use std::path::PathBuf;

use crate::pin::Pinning;

pub(crate) const USAGE: &str =
    "usage: bench [--reference PATH] [options]    ours and another server side by side
       bench [options]                       only ours
       bench --url URL [options]             a server that runs already

  --reference PATH   the server to compare with
  --millrace PATH    our server (default: target/release/millrace)
  --url URL          nats://[user:password@]host[:port]; its processor time and memory stay unknown
  --scenario NAME    only scenarios whose name contains NAME; more than once: any of them
                     (\"cold data\" is run only so: 20 GB at scale 1)
  --skip NAME        not those whose name contains NAME; more than once: none of them
  --rounds N         measurements of each server and scenario (default 3)
  --scale F          multiplies times and numbers of messages (default 1.0)
  --pin MODE         pinned: server and generator on one processor each; free: wherever the
                     scheduler puts them; both (default)
  --data DIR         where data folders are made (default: target/bench)
  --json             print results as JSON instead of a Markdown table
  --json-file PATH   write them there, beside the table
  --into PATH        also replace these rows in the table of a document (docs/performance.md)
  --list             print the names of the scenarios
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) reference: Option<PathBuf>,
    pub(crate) millrace: PathBuf,
    pub(crate) url: Option<String>,
    pub(crate) rounds: usize,
    pub(crate) scale: f64,
    pub(crate) scenarios: Vec<String>,
    pub(crate) skipped: Vec<String>,
    pub(crate) pinnings: Vec<Pinning>,
    pub(crate) data: PathBuf,
    pub(crate) json: bool,
    pub(crate) json_file: Option<PathBuf>,
    pub(crate) document: Option<PathBuf>,
    pub(crate) list: bool,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            reference: None,
            millrace: PathBuf::from("target/release/millrace"),
            url: None,
            rounds: 3,
            scale: 1.0,
            scenarios: Vec::new(),
            skipped: Vec::new(),
            pinnings: vec![Pinning::Pinned, Pinning::Free],
            data: PathBuf::from("target/bench"),
            json: false,
            json_file: None,
            document: None,
            list: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| misused(&word, "needs a value"));
            match word.as_str() {
                "--reference" => arguments.reference = Some(PathBuf::from(value()?)),
                "--millrace" => arguments.millrace = PathBuf::from(value()?),
                "--url" => arguments.url = Some(value()?),
                "--rounds" => arguments.rounds = number(&word, &value()?)?,
                "--scale" => arguments.scale = number(&word, &value()?)?,
                "--scenario" => arguments.scenarios.push(value()?),
                "--skip" => arguments.skipped.push(value()?),
                "--pin" => arguments.pinnings = pinnings(&value()?)?,
                "--data" => arguments.data = PathBuf::from(value()?),
                "--json" => arguments.json = true,
                "--into" => arguments.document = Some(PathBuf::from(value()?)),
                "--json-file" => arguments.json_file = Some(PathBuf::from(value()?)),
                "--list" => arguments.list = true,
                _ => return Err(misused(&word, "is unknown")),
            }
        }
        if arguments.url.is_some() && arguments.reference.is_some() {
            return Err(misused("--url", "measures one server: no --reference"));
        }
        if arguments.rounds == 0 || !(arguments.scale > 0.0 && arguments.scale <= 100.0) {
            return Err(misused("--rounds, --scale", "must be positive"));
        }
        Ok(arguments)
    }

    /// Whether the scenario of this name is to be run; one that stands apart only if it is named.
    pub(crate) fn picks(&self, name: &str, is_apart: bool) -> bool {
        let is_wanted = (self.scenarios.is_empty() && (!is_apart || self.list))
            || self
                .scenarios
                .iter()
                .any(|wanted| name.contains(wanted.as_str()));
        is_wanted
            && !self
                .skipped
                .iter()
                .any(|skipped| name.contains(skipped.as_str()))
    }
}

fn pinnings(mode: &str) -> Result<Vec<Pinning>, String> {
    match mode {
        "pinned" => Ok(vec![Pinning::Pinned]),
        "free" => Ok(vec![Pinning::Free]),
        "both" => Ok(vec![Pinning::Pinned, Pinning::Free]),
        _ => Err(misused("--pin", "is pinned, free or both")),
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| misused(word, "needs a number"))
}

fn misused(word: &str, what: &str) -> String {
    format!("{word} {what}\n{USAGE}")
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn scenarios_are_picked_by_parts_of_their_names() {
        let arguments = parse("--scenario core --scenario kv --skip 1:8").unwrap();
        assert!(arguments.picks("core 1:1", false) && arguments.picks("jetstream kv put", false));
        assert!(!arguments.picks("core 1:8", false) && !arguments.picks("memory idle", false));
        assert!(parse("").unwrap().picks("anything", false));
        assert!(!parse("").unwrap().picks("cold data", true));
        assert!(parse("--scenario cold").unwrap().picks("cold data", true));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--rounds",
            "--rounds x",
            "--rounds 0",
            "--scale -1",
            "--pin both-and",
            "--url u --reference r",
            "--what",
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains("usage: bench"), "{line}: {error}");
        }
    }
}
