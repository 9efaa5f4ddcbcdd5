//! What can be wrong with a configuration, with the place where it stands.

use std::fmt;

use crate::language::{Position, SyntaxError};

/// A remark about one place of a configuration file. Displays as `FILE:LINE:COLUMN: text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Name of the file.
    pub file: String,
    /// Where in the file; `None` for the file as a whole.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
}

/// Something that starts with a remark only, but makes a configuration test fail.
pub type Warning = Issue;

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(at) => write!(
                f,
                "{}:{}:{}: {}",
                self.file, at.line, at.column, self.message
            ),
            None if self.file.is_empty() => f.write_str(&self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Everything that is wrong with a configuration. Displays one remark per line, warnings first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigErrors {
    /// The text is not of the language; nothing beyond that place was looked at.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Keys or values are wrong.
    #[error("{}", lines(warnings, errors))]
    Values {
        /// Errors in the order of the files and lines.
        errors: Vec<Issue>,
        /// Warnings, also those of a file without errors.
        warnings: Vec<Warning>,
    },
}

fn lines(warnings: &[Issue], errors: &[Issue]) -> String {
    let all: Vec<String> = warnings
        .iter()
        .chain(errors)
        .map(Issue::to_string)
        .collect();
    all.join("\n")
}
