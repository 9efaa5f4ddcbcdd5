//! The words behind a command: options with a value, and the rest.

use millrace_config::options::JetStreamOptions;
use std::path::PathBuf;

/// Why a command did nothing, or stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was asked for in a wrong way.
    Usage(String),
    Other(String),
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self::Other(reason)
    }
}

/// What stood behind the command.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) plain: Vec<String>,
    options: Vec<(&'static str, String)>,
}

/// Options of all commands, by all their names, and the one that the code uses.
const OPTIONS: [(&str, &str); 12] = [
    ("-sd", "store"),
    ("--store_dir", "store"),
    ("-c", "config"),
    ("--config", "config"),
    ("-a", "account"),
    ("--account", "account"),
    ("-s", "stream"),
    ("--stream", "stream"),
    ("-f", "format"),
    ("--format", "format"),
    ("-o", "output"),
    ("--output", "output"),
];

impl Words {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') || word == "-" {
                found.plain.push(word.clone());
                continue;
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let option = OPTIONS.iter().find(|(given, _)| *given == name);
            let Some((_, option)) = option else {
                return Err(Failure::Usage(format!("unknown option {name}")));
            };
            let value = value.or_else(|| words.next().cloned());
            let value = value.ok_or_else(|| Failure::Usage(format!("{name} needs a value")))?;
            found.options.push((option, value));
        }
        Ok(found)
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        let found = self.options.iter().rev().find(|(one, _)| *one == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The folder of our store: `-sd`, or the one in the configuration file.
    pub(crate) fn store_dir(&self) -> Result<Option<PathBuf>, Failure> {
        if let Some(folder) = self.option("store") {
            return Ok(Some(PathBuf::from(folder)));
        }
        let Some(config) = self.option("config") else {
            return Ok(None);
        };
        let (options, _) = crate::load::file(config)?;
        let folder = options.jetstream.store_dir.map(PathBuf::from);
        folder.map(Some).ok_or_else(|| {
            Failure::Usage(format!(
                "{config} does not say where the store is (store_dir)"
            ))
        })
    }

    /// What a configuration file says of encryption: its keys open the store.
    pub(crate) fn keys(&self) -> Result<JetStreamOptions, Failure> {
        match self.option("config") {
            Some(config) => Ok(crate::load::file(config)?.0.jetstream),
            None => Ok(JetStreamOptions::default()),
        }
    }

    /// The same for commands that need one: the folder may also be the only plain word.
    pub(crate) fn needed_store_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = self.store_dir()? {
            return Ok(folder);
        }
        match &self.plain[..] {
            [folder] => Ok(PathBuf::from(folder)),
            _ => Err(Failure::Usage("which store? Name its folder".to_owned())),
        }
    }
}
