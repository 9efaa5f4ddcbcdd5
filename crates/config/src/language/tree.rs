//! The parsed tree: values with the place each was written at.

use std::collections::BTreeMap;
use std::collections::btree_map;

/// Where something stands: a file (index into [`Tree::files`]), a line and a column.
///
/// Lines count from 1. Columns count bytes, from 0 on the first line and from 1 on all others, as
/// the reference reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index of the file.
    pub file: usize,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// A value of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number, its suffix multiplied in.
    Integer(i64),
    /// A number with decimals.
    Float(f64),
    /// Any kind of string.
    Text(String),
    /// A point in time, as written.
    Time(String),
    /// A list; its elements are entries with an empty key.
    Array(Vec<Entry>),
    /// Keys and values.
    Map(Map),
}

impl Value {
    /// The text of a string.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How many values it consists of, itself included.
    #[must_use]
    pub(super) fn size(&self) -> usize {
        let inner: usize = match self {
            Self::Array(elements) => elements.iter().map(|element| element.value.size()).sum(),
            Self::Map(map) => map.iter().map(|entry| entry.value.size()).sum(),
            _ => 0,
        };
        inner + 1
    }

    /// The value as messages show it: scalars as written, others by their type.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) | Self::Time(text) => text.clone(),
            Self::Array(_) | Self::Map(_) => self.type_name().to_owned(),
        }
    }

    /// What the reference calls this type in its messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::Integer(_) => "int64",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::Time(_) => "time.Time",
            Self::Array(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }
}

/// A value under a key, or an element of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as written.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where the key stands.
    pub position: Position,
    /// A variable reference used this entry, so it may have an unknown name.
    pub referenced: bool,
}

/// The entries of a map. A key that is written twice keeps its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: BTreeMap<String, Entry>,
}

impl Map {
    /// Adds an entry or replaces the one with the same key.
    pub fn insert(&mut self, entry: Entry) {
        self.entries.insert(entry.key.clone(), entry);
    }

    /// The entry of a key, case matters.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// The entry of a key, case matters.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All entries in byte order of their keys.
    pub fn iter(&self) -> btree_map::Values<'_, String, Entry> {
        self.entries.values()
    }

    /// All entries in the order they are written in.
    #[must_use]
    pub fn in_file_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.position);
        entries
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all entries out, for merging into another map.
    pub fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_values()
    }
}

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// The top level.
    pub root: Map,
    /// Names of the files read, the main one first.
    pub files: Vec<String>,
}

/// Text that is not of the language, or a variable or file that is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// A rule of the grammar is broken.
    #[error("Parse error on line {line}: '{message}'")]
    Grammar {
        /// Line of the error.
        line: usize,
        /// What was expected.
        message: String,
    },
    /// The text ends after a key.
    #[error("config is invalid ({file}:{line}:{column})")]
    KeyWithoutValue {
        /// Name of the file.
        file: String,
        /// Line of the end.
        line: usize,
        /// Column of the end.
        column: usize,
    },
    /// A number that does not fit its type.
    #[error("{kind} '{text}' is out of the range")]
    OutOfRange {
        /// `integer` or `float`.
        kind: &'static str,
        /// The digits.
        text: String,
    },
    /// A date that does not exist.
    #[error("expected Zulu formatted DateTime, but got '{text}'")]
    NoSuchTime {
        /// The text.
        text: String,
    },
    /// A variable that is defined nowhere.
    #[error("variable reference for '{name}' on line {line} can not be found")]
    UnknownVariable {
        /// Name of the variable.
        name: String,
        /// Line of the reference.
        line: usize,
    },
    /// A variable of the environment whose text is not a value.
    #[error("variable reference for '{name}' on line {line} could not be parsed: {source}")]
    BadVariable {
        /// Name of the variable.
        name: String,
        /// Line of the reference.
        line: usize,
        /// What is wrong with its text.
        source: Box<Self>,
    },
    /// Variables of the environment that refer to each other in a circle.
    #[error("variable reference cycle for '{name}'")]
    VariableCycle {
        /// Name of the variable.
        name: String,
    },
    /// An included file cannot be read.
    #[error("error parsing include file '{path}', {reason}")]
    UnreadableInclude {
        /// Path as written.
        path: String,
        /// Why.
        reason: String,
    },
    /// An included file is wrong.
    #[error("error parsing include file '{path}', {source}")]
    BadInclude {
        /// Path as written.
        path: String,
        /// What is wrong in it.
        source: Box<Self>,
    },
    /// More of something than any real configuration needs.
    #[error("configuration has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Maps, arrays or includes inside each other beyond the limit.
    #[error("configuration is nested more than {limit} levels deep on line {line}")]
    TooDeep {
        /// The limit.
        limit: usize,
        /// Line of the error.
        line: usize,
    },
}
