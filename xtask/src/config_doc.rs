//! `docs/configuration.md` from the code: the tables of keys in `crates/config/src/decode`, what each key
//! sets, and the comment and default of that option in `crates/config/src/options`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use syn::spanned::Spanned;

use crate::source::{Source, rust_files};

const DOCUMENT: &str = "docs/configuration.md";
const DECODE: &str = "crates/config/src/decode/";

/// A part of the document: title, what to say first, and the tables (`file::CONSTANT`) in it.
type Part = (&'static str, &'static str, &'static [&'static str]);

const PARTS: [Part; 19] = [
    ("The client listener", "", &["top.rs::LISTENER"]),
    ("Limits of clients", "", &["top.rs::LIMITS"]),
    ("Logging and files", "", &["top.rs::LOGGING"]),
    ("Monitoring", "", &["top.rs::MONITORING"]),
    (
        "`monitoring`",
        "Ours alone: who may look at the monitoring port, and the dashboard. With `user` and `password`, or \
      `token`, every request must carry them (`Authorization: Basic` or `Bearer`); both may be bcrypt hashes. `actions` \
      (publish and peek in the dashboard) needs such authentication and is off without it.",
        &["monitoring.rs::FIELDS"],
    ),
    ("The server", "", &["top.rs::SERVER"]),
    ("Security", "", &["top.rs::SECURITY"]),
    ("`authorization`", "", &["authorization.rs::FIELDS"]),
    (
        "A user",
        "In `authorization { users }` and in accounts.",
        &["authorization.rs::USER"],
    ),
    (
        "`permissions`",
        "",
        &["permissions.rs::FIELDS", "permissions.rs::RESPONSES"],
    ),
    ("`auth_callout`", "", &["callout.rs::FIELDS"]),
    ("`tls`", "", &["tls.rs::FIELDS", "tls.rs::PAIR"]),
    (
        "An account",
        "In `accounts`, under its name; its `limits` and its `jetstream` block follow.",
        &[
            "accounts.rs::FIELDS",
            "accounts.rs::LIMITS",
            "accounts.rs::JETSTREAM",
        ],
    ),
    (
        "Operator mode",
        "The keys of the top level, then those of a `resolver` block.",
        &["top.rs::OPERATOR", "operator.rs::FIELDS"],
    ),
    (
        "Other keys of the top level",
        "",
        &["top.rs::BLOCKS", "top.rs::INACTIVE"],
    ),
    ("`proxies`", "", &["top.rs::PROXIES", "top.rs::PROXY"]),
    (
        "`websocket`",
        "",
        &["websocket.rs::FIELDS", "websocket.rs::AUTHORIZATION"],
    ),
    (
        "`jetstream`",
        "Its `limits` and the batches in them follow.",
        &[
            "jetstream.rs::FIELDS",
            "jetstream.rs::QUEUES",
            "jetstream.rs::LIMITS",
            "jetstream.rs::BATCH",
            "jetstream.rs::NOT_YET",
            "jetstream.rs::ENCRYPTION",
        ],
    ),
    (
        "Not active",
        "Checked as the reference does, and reported once at start as not active: nothing listens.",
        &[
            "inactive/cluster.rs::CLUSTER",
            "inactive/cluster.rs::GATEWAY",
            "inactive/cluster.rs::LINK",
            "inactive/leafnodes.rs::FIELDS",
            "inactive/mqtt.rs::FIELDS",
        ],
    ),
];

/// Tables inside blocks that are not active: not worth a line each.
const INNER: [&str; 8] = [
    "inactive/cluster.rs::REMOTE",
    "inactive/leafnodes.rs::AUTHORIZATION",
    "inactive/leafnodes.rs::USER",
    "inactive/leafnodes.rs::REMOTE",
    "inactive/leafnodes.rs::PROXY",
    "inactive/parts.rs::AUTHORIZATION",
    "inactive/parts.rs::COMPRESSION",
    "inactive/parts.rs::OWN_AUTHORIZATION",
];

const HEAD: &str = "# Configuration reference\n\n\
    Generated from the code by `cargo xtask config-doc`; do not edit. The language is that of nats-server's configuration \
    files (variables, includes, comments, sizes as `1GB`, durations as `10s`). Keys are matched in any case; names in one \
    row mean the same. What a running server takes over from a changed file is named in the log of a reload.\n";

/// One key as the code knows it.
struct Key {
    names: Vec<String>,
    kind: &'static str,
    text: String,
    default: String,
}

pub(crate) fn write(root: &Path) -> Result<(), String> {
    fs::write(root.join(DOCUMENT), render(root)?).map_err(|error| error.to_string())
}

/// Fails when the document is not what the code says.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let written = fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default();
    if written == render(root)? {
        return Ok(());
    }
    Err(format!("{DOCUMENT} is stale: cargo xtask config-doc"))
}

fn render(root: &Path) -> Result<String, String> {
    let files: Vec<Source> = rust_files(root)?
        .into_iter()
        .filter(|file| file.path.starts_with("crates/config/src/"))
        .collect();
    let code = Code::read(&files)?;
    let mut unnamed: BTreeSet<&str> = code.tables.keys().map(String::as_str).collect();
    let mut text = HEAD.to_owned();
    for (title, introduction, tables) in PARTS {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n## {title}\n\n");
        if !introduction.is_empty() {
            let _ = write!(text, "{introduction}\n\n");
        }
        text.push_str("| key | value | default | what it does |\n|---|---|---|---|\n");
        for name in tables {
            unnamed.remove(name);
            let table = code.tables.get(*name);
            let table = table
                .ok_or_else(|| format!("{DECODE}{name} is gone: mend xtask/src/config_doc.rs"))?;
            for key in table {
                let names = key.names.iter().map(|name| format!("`{name}`"));
                let names: Vec<String> = names.collect();
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} |",
                    names.join(", "),
                    key.kind,
                    key.default,
                    key.text
                );
            }
        }
    }
    for inner in INNER {
        unnamed.remove(inner);
    }
    if unnamed.is_empty() {
        return Ok(text);
    }
    Err(format!(
        "tables of keys that {DOCUMENT} does not show: {unnamed:?} (xtask/src/config_doc.rs)"
    ))
}

/// A field of an options struct.
#[derive(Clone, Default)]
struct OptionField {
    kind: String,
    text: String,
}

/// What is read from the sources of `crates/config`.
#[derive(Default)]
struct Code {
    /// `Struct.field`.
    fields: BTreeMap<String, OptionField>,
    /// `Struct.field` as written in `impl Default`.
    defaults: BTreeMap<String, String>,
    constants: BTreeMap<String, String>,
    tables: BTreeMap<String, Vec<Key>>,
}

impl Code {
    fn read(files: &[Source]) -> Result<Self, String> {
        let mut code = Self::default();
        let mut parsed = Vec::new();
        for file in files {
            let items =
                syn::parse_file(&file.text).map_err(|error| format!("{}: {error}", file.path))?;
            parsed.push((file, items.items));
        }
        for (file, items) in &parsed {
            for item in items {
                code.note(file, item);
            }
        }
        for (file, items) in &parsed {
            let Some(name) = file.path.strip_prefix(DECODE) else {
                continue;
            };
            for item in items {
                if let syn::Item::Const(table) = item
                    && let Some(target) = field_type(&snippet(file, table.ty.span()))
                {
                    let keys = code.keys(file, items, &target, &table.expr);
                    code.tables.insert(format!("{name}::{}", table.ident), keys);
                }
            }
        }
        Ok(code)
    }

    fn note(&mut self, file: &Source, item: &syn::Item) {
        match item {
            syn::Item::Struct(one) => {
                for field in &one.fields {
                    let Some(ident) = &field.ident else { continue };
                    let noted = OptionField {
                        kind: snippet(file, field.ty.span()),
                        text: doc(&field.attrs),
                    };
                    self.fields.insert(format!("{}.{ident}", one.ident), noted);
                }
            }
            syn::Item::Const(one) => {
                self.constants
                    .insert(one.ident.to_string(), snippet(file, one.expr.span()));
            }
            syn::Item::Impl(one) => {
                let is_default = one
                    .trait_
                    .as_ref()
                    .is_some_and(|(_, path, _)| path.is_ident("Default"));
                if is_default {
                    let name = snippet(file, one.self_ty.span());
                    self.note_defaults(&name, &snippet(file, one.span()));
                }
            }
            _ => {}
        }
    }

    /// Lines `field: expression,` of `impl Default`.
    fn note_defaults(&mut self, name: &str, text: &str) {
        for line in text.lines() {
            if let Some((field, value)) = line.trim().trim_end_matches(',').split_once(": ") {
                self.defaults
                    .insert(format!("{name}.{field}"), value.to_owned());
            }
        }
    }

    fn keys(
        &self,
        file: &Source,
        items: &[syn::Item],
        target: &str,
        table: &syn::Expr,
    ) -> Vec<Key> {
        let syn::Expr::Reference(reference) = table else {
            return Vec::new();
        };
        let syn::Expr::Array(array) = &*reference.expr else {
            return Vec::new();
        };
        let mut keys = Vec::new();
        for element in &array.elems {
            let syn::Expr::Call(call) = element else {
                continue;
            };
            let mut arguments = call.args.iter();
            let Some(names) = arguments.next() else {
                continue;
            };
            let names = strings(&snippet(file, names.span()));
            let setter = arguments.next().map(|setter| {
                let mut text = snippet(file, setter.span());
                // A function of this file is read as if it stood here.
                for item in items {
                    if let syn::Item::Fn(function) = item
                        && function.sig.ident == text.trim()
                    {
                        text = snippet(file, function.span());
                        break;
                    }
                }
                text
            });
            keys.push(self.key(target, names, setter.as_deref()));
        }
        keys
    }

    fn key(&self, target: &str, names: Vec<String>, setter: Option<&str>) -> Key {
        let Some(setter) = setter else {
            let text = "Not supported by this version: an error unless it switches something off."
                .to_owned();
            return Key {
                names,
                kind: "",
                text,
                default: String::new(),
            };
        };
        if setter.trim() == "accept" {
            let text = "Accepted; tunes machinery that this server does not have.".to_owned();
            return Key {
                names,
                kind: "any",
                text,
                default: String::new(),
            };
        }
        let found = self.option_of(target, setter);
        let kind = kind_of(setter, found.as_ref().map(|(_, field)| field.kind.as_str()));
        let default = found
            .as_ref()
            .map(|(path, field)| self.default_of(path, &field.kind, kind));
        Key {
            names,
            kind,
            text: found.map(|(_, field)| field.text).unwrap_or_default(),
            default: default.unwrap_or_default(),
        }
    }

    /// The option that a setter sets: the first path in it that leads from `target` to a field.
    fn option_of(&self, target: &str, setter: &str) -> Option<(String, OptionField)> {
        let mut best = None;
        let words = setter.split(|character: char| {
            !(character.is_alphanumeric() || character == '_' || character == '.')
        });
        for word in words.filter(|word| word.contains('.')) {
            let mut steps = word.split('.').skip(1);
            let mut structure = target.to_owned();
            let mut path = None;
            for step in &mut steps {
                let name = format!("{structure}.{step}");
                let Some(field) = self.fields.get(&name) else {
                    break;
                };
                structure = field
                    .kind
                    .trim_start_matches("Option<")
                    .trim_end_matches('>')
                    .to_owned();
                path = Some((name, field.clone()));
            }
            if best.is_none() {
                best = path;
            }
        }
        best
    }

    fn default_of(&self, path: &str, kind: &str, shown_kind: &str) -> String {
        let value = self.defaults.get(path).map(String::as_str);
        let value = match (value, kind) {
            (Some(value), _) => self.evaluated(value),
            (None, "bool") => "false".to_owned(),
            (None, _) => String::new(),
        };
        match value.parse::<u64>() {
            Ok(number) if path.ends_with("_ns") => format!("`{}`", duration_text(number)),
            Ok(number) if shown_kind == "size" && number >= 1024 => {
                format!("`{}`", size_text(number))
            }
            _ if value.contains("::") => {
                let word = value.rsplit("::").next().unwrap_or_default();
                format!("`{}`", word.to_lowercase())
            }
            _ if value.is_empty() || value.contains(['(', '{', '[']) => String::new(),
            _ => format!("`{}`", value.trim_matches('"')),
        }
    }

    /// Names of constants replaced, products multiplied, wrappers taken off.
    fn evaluated(&self, text: &str) -> String {
        let text = text.trim().trim_end_matches(".to_owned()");
        let text = text
            .strip_prefix("i32::from(")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(text);
        if text == "None" || text.ends_with("::new()") || text.ends_with("::default()") {
            return String::new();
        }
        if let Some(constant) = self.constants.get(text) {
            return self.evaluated(constant);
        }
        let factors: Option<Vec<u64>> = text
            .split('*')
            .map(|factor| {
                let factor = self
                    .constants
                    .get(factor.trim())
                    .map_or(factor, String::as_str);
                factor.trim().replace('_', "").parse().ok()
            })
            .collect();
        factors.map_or_else(
            || text.to_owned(),
            |factors| factors.iter().product::<u64>().to_string(),
        )
    }
}

/// What a value must be, by the function that reads it.
fn kind_of(setter: &str, option: Option<&str>) -> &'static str {
    let has = |word: &str| setter.contains(word);
    match option {
        Some("WriteTimeout") => "word",
        _ if has("set_bool") => "true or false",
        _ if has("listen(") => "`host:port` or port",
        _ if has("duration") || has("timeout_ns") || setter.contains("sync_interval") => "duration",
        _ if has("set_size32") || has("server_size") || has("storage_size") => "size",
        _ if has("set_integer") || has("at_least_zero") || has(".integer(") => "number",
        _ if has("text_map") => "map of texts",
        _ if has("texts(") => "list of texts",
        _ if has("set_text") || has(".text(") => "text",
        Some("bool") => "true or false",
        _ => "block",
    }
}

fn duration_text(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    match seconds {
        0 if time_ns == 0 => "0".to_owned(),
        0 => format!("{}ms", time_ns / 1_000_000),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn size_text(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = units.iter().find(|(size, _)| bytes.is_multiple_of(*size));
    fits.map_or_else(
        || bytes.to_string(),
        |(size, unit)| format!("{} {unit}", bytes / size),
    )
}

/// `T` of `&[Field<T>]`.
fn field_type(text: &str) -> Option<String> {
    let inner = text.strip_prefix("&[Field<")?.strip_suffix(">]")?;
    Some(inner.to_owned())
}

/// The texts between quotes.
fn strings(text: &str) -> Vec<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The first paragraph of a doc comment as one line.
fn doc(attributes: &[syn::Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let syn::Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let syn::Expr::Lit(literal) = &pair.value
            && let syn::Lit::Str(text) = &literal.lit
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    let paragraph: Vec<String> = lines
        .into_iter()
        .take_while(|line| !line.is_empty())
        .collect();
    let text = paragraph.join(" ").replace('|', "\\|");
    text.replace("`None`", "absent")
}

/// The source text of a span.
fn snippet(file: &Source, span: proc_macro2::Span) -> String {
    let (start, end) = (span.start(), span.end());
    let mut text = String::new();
    for (number, line) in file.text.lines().enumerate() {
        let number = number + 1;
        if number < start.line || number > end.line {
            continue;
        }
        let characters = line.chars();
        let from = if number == start.line {
            start.column
        } else {
            0
        };
        let until = if number == end.line {
            end.column
        } else {
            usize::MAX
        };
        text.extend(characters.skip(from).take(until.saturating_sub(from)));
        if number < end.line {
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_the_code_says() {
        check(&crate::project_root()).unwrap();
    }

    #[test]
    fn a_key_is_found_with_its_type_default_and_text() {
        let text = render(&crate::project_root()).unwrap();
        for row in [
            "| `max_payload` | size | `1 MiB` | Largest header plus payload in bytes. |",
            "| `write_deadline` | duration | `10s` | Longest time one write may take. |",
            "| `max_connections`, `max_conn` | number | `65536` |",
            "| `dashboard` | true or false | `true` | Serve the dashboard. |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }
}
