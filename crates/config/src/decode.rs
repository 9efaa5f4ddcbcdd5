//! The second stage: from the tree to typed options.
//!
//! Each block has a table of fields in a file of its own; this file walks a map along such a table
//! and collects what is wrong. All errors are collected, none stops the walk.

mod accounts;
mod authorization;
mod callout;
mod inactive;
mod jetstream;
mod mappings;
mod monitoring;
mod operator;
mod permissions;
mod scalar;
mod sharing;
mod tls;
mod top;
mod unsupported;
mod websocket;

use crate::language::{Entry, Map, Position, Sources, Tree, Value, digest, parse_tree};
use crate::problem::{ConfigErrors, Issue, Warning};
use crate::{Options, suggest};

/// Parses a configuration into options.
///
/// `path` names the file in messages and is where includes are looked for; `load` reads an
/// included file (its error is the sentence to show), `environment` looks up a variable.
///
/// # Errors
/// The text is not of the language, or keys or values are wrong; all of them are listed.
pub fn parse(
    text: &str,
    path: &str,
    load: &dyn Fn(&str) -> Result<String, String>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Options, Vec<Warning>), ConfigErrors> {
    let tree = parse_tree(text, path, Sources { load, environment })?;
    let mut decoder = Decoder {
        tree: &tree,
        load,
        errors: Vec::new(),
        warnings: Vec::new(),
    };
    let mut options = Options {
        config_file: Some(path.to_owned()),
        config_digest: digest(&tree.root),
        ..Options::default()
    };
    if tree.root.is_empty() {
        decoder.warnings.push(Issue {
            file: path.to_owned(),
            position: None,
            message: "config has no values or is empty".to_owned(),
        });
    }
    top::decode(&mut decoder, &tree.root, &mut options);
    let Decoder {
        mut errors,
        mut warnings,
        ..
    } = decoder;
    errors.sort_by_key(|issue| issue.position);
    warnings.sort_by_key(|issue| issue.position);
    if errors.is_empty() {
        Ok((options, warnings))
    } else {
        Err(ConfigErrors::Values { errors, warnings })
    }
}

/// Collects what is wrong while options are filled.
struct Decoder<'a> {
    tree: &'a Tree,
    /// Reads a file that a value names.
    load: &'a dyn Fn(&str) -> Result<String, String>,
    errors: Vec<Issue>,
    warnings: Vec<Warning>,
}

/// A key of a block: all its names in lower case, and what its value does.
struct Field<T> {
    names: &'static [&'static str],
    set: fn(&mut Decoder<'_>, &mut T, &Entry),
}

const fn field<T>(
    names: &'static [&'static str],
    set: fn(&mut Decoder<'_>, &mut T, &Entry),
) -> Field<T> {
    Field { names, set }
}

/// How a block words the error about an unknown key.
type UnknownText = fn(&str) -> String;

fn unknown_field(key: &str) -> String {
    format!("unknown field {key:?}")
}

impl Decoder<'_> {
    fn issue(&self, position: Position, message: String) -> Issue {
        let file = self
            .tree
            .files
            .get(position.file)
            .cloned()
            .unwrap_or_default();
        Issue {
            file,
            position: Some(position),
            message,
        }
    }

    fn error(&mut self, entry: &Entry, message: impl Into<String>) {
        let issue = self.issue(entry.position, message.into());
        self.errors.push(issue);
    }

    fn warning(&mut self, entry: &Entry, reason: impl std::fmt::Display) {
        let message = format!("invalid use of field {:?}: {reason}", entry.key);
        let issue = self.issue(entry.position, message);
        self.warnings.push(issue);
    }

    /// Lets each entry of a map find its field in `table`. Keys are matched in any case.
    fn fields<T: 'static>(
        &mut self,
        map: &Map,
        target: &mut T,
        table: &[&Field<T>],
        unknown: UnknownText,
    ) {
        for entry in map.in_file_order() {
            let key = entry.key.to_ascii_lowercase();
            let known = table
                .iter()
                .find(|field| field.names.contains(&key.as_str()));
            match known {
                Some(field) => (field.set)(self, target, entry),
                // Whatever a variable reference uses is a definition.
                None if entry.referenced => {}
                None => {
                    let names = table.iter().flat_map(|field| field.names.iter().copied());
                    let hint = suggest::closest(&key, names)
                        .map(|name| format!(", did you mean {name:?}?"))
                        .unwrap_or_default();
                    self.error(entry, format!("{}{hint}", unknown(&entry.key)));
                }
            }
        }
    }

    /// The error about a value of another type than `expected`, in the reference's words.
    fn mismatch(&mut self, entry: &Entry, expected: &str) {
        let found = entry.value.type_name();
        let text = format!("interface conversion: interface {{}} is {found}, not {expected}");
        self.error(entry, text);
    }

    fn map<'e>(&mut self, entry: &'e Entry) -> Option<&'e Map> {
        match &entry.value {
            Value::Map(map) => Some(map),
            _ => {
                self.mismatch(entry, "map[string]interface {}");
                None
            }
        }
    }
}
