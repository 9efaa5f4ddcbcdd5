//! Whether exports and imports of accounts fit each other (spec core/10): an import needs an export
//! that covers it and lets the importer in, and must not lead back to where it came from.

use std::collections::{BTreeMap, BTreeSet};

use millrace_subject::{
    Transform, has_wildcard, is_literal, is_subset, is_valid_literal, is_valid_subject, overlaps,
    tokens, with_references, without_references,
};

use crate::options::{AccountOptions, ExportOptions, ImportOptions, ResponseType, SharedKind};

/// Accounts that a search for cycles visits at most.
const CYCLE_SEARCH_MAX: usize = 1024;

/// What accounts share, as far as it was found to be right.
#[derive(Debug, Default)]
pub struct Sharing {
    accounts: BTreeMap<String, Shared>,
    no_system_account: bool,
}

#[derive(Debug, Default)]
struct Shared {
    exports: Vec<ExportOptions>,
    imports: Vec<Import>,
}

/// An import with its local subject in the form of a filter.
#[derive(Debug)]
struct Import {
    kind: SharedKind,
    account: String,
    remote: String,
    local: String,
}

impl Sharing {
    /// Knows the accounts and nothing of what they share.
    #[must_use]
    pub fn new(accounts: &[AccountOptions], no_system_account: bool) -> Self {
        let names = accounts.iter().map(|account| account.name.clone());
        Self {
            accounts: names.map(|name| (name, Shared::default())).collect(),
            no_system_account,
        }
    }

    /// Adds all exports, then all imports. Gives back what is wrong, as sentences of the reference.
    pub fn add_all(&mut self, accounts: &[AccountOptions]) -> Vec<String> {
        let mut errors = Vec::new();
        for kind in [SharedKind::Stream, SharedKind::Service] {
            for account in accounts {
                for export in account.exports.iter().filter(|export| export.kind == kind) {
                    errors.extend(self.add_export(&account.name, export).err());
                }
            }
        }
        for kind in [SharedKind::Stream, SharedKind::Service] {
            for account in accounts {
                for import in account.imports.iter().filter(|import| import.kind == kind) {
                    errors.extend(self.add_import(&account.name, import).err());
                }
            }
        }
        errors
    }

    /// Adds one export.
    ///
    /// # Errors
    /// Why it cannot be, as a sentence of the reference.
    pub fn add_export(&mut self, account: &str, export: &ExportOptions) -> Result<(), String> {
        let (kind, subject) = (export.kind.word(), &export.subject);
        for name in export.accounts.iter().flatten() {
            if !self.accounts.contains_key(name) {
                return Err(format!("{name:?} account not defined for {kind} export"));
            }
        }
        if let Some(place) = export.account_token_position.checked_sub(1) {
            let token = tokens(subject.as_bytes()).nth(place);
            if token != Some(b"*") {
                return Err(format!(
                    "Error adding {kind} export {subject:?}: sublist: invalid subject"
                ));
            }
        }
        let shared = self.accounts.entry(account.to_owned()).or_default();
        shared
            .exports
            .retain(|known| known.kind != export.kind || known.subject != *subject);
        shared.exports.push(export.clone());
        self.check_latency(account, export)
    }

    fn check_latency(&self, account: &str, export: &ExportOptions) -> Result<(), String> {
        let Some(latency) = &export.latency else {
            return Ok(());
        };
        let subject = &export.subject;
        if self.no_system_account {
            return Err(format!(
                "Error adding service latency sampling for {subject:?}: system account not setup"
            ));
        }
        let results = latency.subject.as_str();
        let is_own = self
            .export_of(account, SharedKind::Service, results)
            .is_some();
        let reason = if !is_valid_literal(results.as_bytes()) || is_own {
            "invalid publish subject"
        } else if export.response_type != ResponseType::Singleton {
            "bad service response type"
        } else {
            return Ok(());
        };
        Err(format!(
            "Error adding service latency sampling for {subject:?} on subject {results:?}: {reason}"
        ))
    }

    /// Adds one import.
    ///
    /// # Errors
    /// Why it is not allowed, as a sentence of the reference.
    pub fn add_import(&mut self, account: &str, import: &ImportOptions) -> Result<(), String> {
        let kind = import.kind.word();
        if !self.accounts.contains_key(&import.account) {
            let exporter = &import.account;
            return Err(format!(
                "{exporter:?} account not defined for {kind} import"
            ));
        }
        let checked = match import.kind {
            SharedKind::Stream => self.check_stream(account, import),
            SharedKind::Service => self.check_service(account, import),
        };
        let subject = &import.subject;
        checked.map_err(|reason| format!("Error adding {kind} import {subject:?}: {reason}"))?;
        let local = without_references(import.local_subject().as_bytes()).0;
        let shared = self.accounts.entry(account.to_owned()).or_default();
        shared.imports.push(Import {
            kind: import.kind,
            account: import.account.clone(),
            remote: subject.clone(),
            local: String::from_utf8_lossy(&local).into_owned(),
        });
        Ok(())
    }

    fn check_stream(&self, account: &str, import: &ImportOptions) -> Result<(), String> {
        if !self.is_allowed(account, import) {
            return Err("stream import not authorized".to_owned());
        }
        if !import.prefix.is_empty() && !is_literal(import.prefix.as_bytes()) {
            return Err("stream import prefix can not contain wildcard tokens".to_owned());
        }
        let (local, remote) = (import.local_subject(), import.subject.as_str());
        for subject in [local.as_str(), remote] {
            self.find_cycle(SharedKind::Stream, account, &import.account, subject)?;
        }
        stream_transform(import)?;
        let known = self.accounts.get(account).map(|shared| &shared.imports);
        let is_same = |known: &Import| {
            known.kind == SharedKind::Stream
                && known.account == import.account
                && known.remote == remote
        };
        if known.is_some_and(|imports| imports.iter().any(is_same)) {
            return Err("stream import already exists".to_owned());
        }
        Ok(())
    }

    fn check_service(&self, account: &str, import: &ImportOptions) -> Result<(), String> {
        let (local, remote) = (import.local_subject(), import.subject.as_str());
        if !is_valid_subject(local.as_bytes()) || !is_valid_subject(remote.as_bytes()) {
            return Err("sublist: invalid subject".to_owned());
        }
        if !self.is_allowed(account, import) {
            return Err("service import not authorized".to_owned());
        }
        let from = if has_wildcard(remote.as_bytes()) {
            let filter = without_references(local.as_bytes()).0;
            String::from_utf8_lossy(&filter).into_owned()
        } else {
            local.clone()
        };
        self.find_cycle(SharedKind::Service, account, &import.account, &from)?;
        service_transform(import)?;
        Ok(())
    }

    /// Whether the exporter lets the importer in.
    fn is_allowed(&self, importer: &str, import: &ImportOptions) -> bool {
        if !is_valid_subject(import.subject.as_bytes()) {
            return false;
        }
        let export = self.export_of(&import.account, import.kind, &import.subject);
        let Some(export) = export else { return false };
        if let Some(place) = export.account_token_position.checked_sub(1) {
            let token = tokens(import.subject.as_bytes()).nth(place);
            return token == Some(importer.as_bytes());
        }
        if export.needs_token {
            return import.activated_at_s.is_some_and(|made_at_s| {
                let revoked = |key: &str| export.revocations.get(key).copied();
                let until = [revoked("*"), revoked(importer)]
                    .into_iter()
                    .flatten()
                    .max();
                until.is_none_or(|until_s| until_s < made_at_s)
            });
        }
        match &export.accounts {
            None => true,
            Some(names) => names.iter().any(|name| name == importer),
        }
    }

    /// The export that covers a subject: the one of that name, or a wider one.
    fn export_of(&self, account: &str, kind: SharedKind, subject: &str) -> Option<&ExportOptions> {
        find_export(&self.accounts.get(account)?.exports, kind, subject)
    }

    /// Follows what an import of `subject` from `exporter` would lead to.
    fn find_cycle(
        &self,
        kind: SharedKind,
        importer: &str,
        exporter: &str,
        subject: &str,
    ) -> Result<(), String> {
        let mut visited = BTreeSet::from([importer.to_owned()]);
        let mut pending = vec![(exporter.to_owned(), subject.to_owned())];
        while let Some((name, subject)) = pending.pop() {
            if visited.len() >= CYCLE_SEARCH_MAX {
                return Err("search cycle depth exhausted".to_owned());
            }
            let Some(shared) = self.accounts.get(&name) else {
                continue;
            };
            if kind == SharedKind::Stream && self.export_of(&name, kind, &subject).is_none() {
                continue;
            }
            for import in shared.imports.iter().filter(|import| import.kind == kind) {
                // The reference compares services by the subject at the exporter.
                let side = match kind {
                    SharedKind::Stream => &import.local,
                    SharedKind::Service => &import.remote,
                };
                if !overlaps(subject.as_bytes(), side.as_bytes()) {
                    continue;
                }
                if visited.contains(&import.account) {
                    return Err("import forms a cycle".to_owned());
                }
                visited.insert(name.clone());
                let narrower = is_subset(import.local.as_bytes(), subject.as_bytes());
                let next = if narrower { &import.local } else { &subject };
                pending.push((import.account.clone(), next.clone()));
            }
        }
        Ok(())
    }
}

/// The export that covers a subject: the one of that name, or a wider one.
#[must_use]
pub fn find_export<'a>(
    exports: &'a [ExportOptions],
    kind: SharedKind,
    subject: &str,
) -> Option<&'a ExportOptions> {
    let mut of_kind = exports.iter().filter(|export| export.kind == kind);
    let exact = of_kind.clone().find(|export| export.subject == subject);
    exact
        .or_else(|| of_kind.find(|export| is_subset(subject.as_bytes(), export.subject.as_bytes())))
}

/// From the exporter's subject to the importer's; `None` if both are the same or literal.
///
/// # Errors
/// The subjects do not correspond.
pub fn stream_transform(import: &ImportOptions) -> Result<Option<Transform>, String> {
    let (local, remote) = (import.local_subject(), &import.subject);
    if !has_wildcard(remote.as_bytes()) || local == *remote {
        return Ok(None);
    }
    let destination = with_references(local.as_bytes());
    let transform = Transform::for_import(remote.as_bytes(), &destination);
    transform.map(Some).map_err(|error| {
        format!(
            "failed to create mapping transform for stream import subject from {remote:?} to \
             {local:?}: {error}"
        )
    })
}

/// From the importer's subject to the exporter's; `None` if both are the same or the exporter's is
/// literal.
///
/// # Errors
/// The subjects do not correspond.
pub fn service_transform(import: &ImportOptions) -> Result<Option<Transform>, String> {
    let (local, remote) = (import.local_subject(), &import.subject);
    if !has_wildcard(remote.as_bytes()) || local == *remote {
        return Ok(None);
    }
    let destination = with_references(local.as_bytes());
    let failed = |reason: String| {
        format!(
            "failed to create mapping transform for service import subject from {local:?} to \
             {remote:?}: {reason}"
        )
    };
    let forth = Transform::for_import(remote.as_bytes(), &destination);
    let forth = forth.map_err(|error| failed(error.to_string()))?;
    let back = forth.reversed();
    back.map(Some)
        .ok_or_else(|| failed("invalid subject".to_owned()))
}

#[cfg(test)]
mod tests {
    fn errors(text: &str) -> Vec<String> {
        let no_files = |_: &str| Err(String::new());
        match crate::parse(text, "test.conf", &no_files, &|_| None) {
            Ok(_) => Vec::new(),
            Err(crate::ConfigErrors::Values { errors, .. }) => {
                errors.into_iter().map(|issue| issue.message).collect()
            }
            Err(other) => vec![other.to_string()],
        }
    }

    /// Accounts A, which exports, and B, which imports.
    fn two(exports: &str, imports: &str) -> Vec<String> {
        errors(&format!(
            "accounts {{ A {{ exports [{exports}] }}\n B {{ imports [{imports}] }} }}"
        ))
    }

    const SERVICE: &str = "{service: {account: A, subject: s}}";
    const STREAM: &str = "{stream: {account: A, subject: s}}";

    /// Exports of A, imports of B, and what is said to them.
    const REFUSED: &[(&str, &str, &str)] = &[
        (
            "{service: t}",
            SERVICE,
            "Error adding service import \"s\": service import not authorized",
        ),
        (
            "{service: s, accounts: [A]}",
            SERVICE,
            "Error adding service import \"s\": service import not authorized",
        ),
        (
            "{stream: s, accounts: [A]}",
            STREAM,
            "Error adding stream import \"s\": stream import not authorized",
        ),
        (
            "{service: s, accounts: [C]}",
            "",
            "\"C\" account not defined for service export",
        ),
        (
            "",
            "{stream: {account: Z, subject: s}}",
            "\"Z\" account not defined for stream import",
        ),
        (
            "{stream: s}",
            "{stream: {account: A, subject: s}, prefix: \"a.*\"}",
            "Error adding stream import \"s\": stream import prefix can not contain wildcard tokens",
        ),
        (
            "{service: \"s.*\", account_token_position: 2}",
            "{service: {account: A, subject: \"s.C\"}}",
            "Error adding service import \"s.C\": service import not authorized",
        ),
        (
            "{service: \"s.*\", account_token_position: 1}",
            "",
            "Error adding service export \"s.*\": sublist: invalid subject",
        ),
        (
            "{service: s, response_type: x}",
            "",
            "Unknown response type: \"x\"",
        ),
        (
            "{service: s, response_type: stream, latency: l}",
            "",
            "Error adding service latency sampling for \"s\" on subject \"l\": bad service response type",
        ),
        (
            "{service: s, latency: s}",
            "",
            "Error adding service latency sampling for \"s\" on subject \"s\": invalid publish subject",
        ),
        (
            "{service: s, latency: {sampling: 5}}",
            "",
            "Latency subject required, but missing",
        ),
        (
            "{service: s, latency: {sampling: 500, subject: l}}",
            "",
            "bad sampling percentage, should be 1-100",
        ),
        (
            "{service: s, threshold: x}",
            "",
            "Expected response threshold to be a parseable time duration, got \"x\"",
        ),
        (
            "{stream: s, service: t}",
            "",
            "Detected service \"t\" but already saw a stream",
        ),
        (
            "{stream: s, response_type: stream}",
            "",
            "Detected response directive on non-service",
        ),
        (
            "x",
            "",
            "Export Items should be a map with type entry, got string",
        ),
        (
            "",
            "{stream: x}",
            "Stream entry should be an account map, got string",
        ),
        (
            "",
            "{stream: {account: A}}",
            "Expect an account name and a subject",
        ),
        (
            "{service: \"s.*\"}",
            "{service: {account: A, subject: \"s.*\"}, to: x}",
            "Error adding service import \"s.*\": failed to create mapping transform for service import subject from \"x\" to \"s.*\": invalid mapping destination: not using all of the token wildcard(s) in x",
        ),
        (
            "{stream: \"s.*\"}",
            "{stream: {account: A, subject: \"s.*\"}, to: \"x.{{partition(3,1)}}\"}",
            "Error adding stream import \"s.*\": failed to create mapping transform for stream import subject from \"s.*\" to \"x.{{partition(3,1)}}\": invalid mapping destination: the only mapping function allowed for import transforms is {{Wildcard()}} in {{partition(3,1)}}",
        ),
    ];

    // proves: ACC-04 ACC-05
    #[test]
    fn imports_that_are_not_allowed_are_refused_in_the_words_of_the_reference() {
        for (exports, imports, expected) in REFUSED {
            assert_eq!(two(exports, imports), [*expected], "{exports} {imports}");
        }
        let twice = two("{stream: s}", &format!("{STREAM}, {STREAM}"));
        assert_eq!(
            twice,
            ["Error adding stream import \"s\": stream import already exists"]
        );
        let twice = two("{service: s}", &format!("{SERVICE}, {SERVICE}"));
        assert_eq!(
            twice,
            [
                "Duplicate service import subject \"s\", previously used in import for account \"A\", subject \"s\""
            ]
        );
        let allowed = two(
            "{service: \"s.*\", account_token_position: 2}",
            "{service: {account: A, subject: \"s.B\"}}",
        );
        assert_eq!(allowed, [""; 0]);
    }

    // proves: ACC-11
    #[test]
    fn imports_that_lead_back_are_refused() {
        let ring = |kind: &str| {
            errors(&format!(
                "accounts {{ A {{ exports [{{{kind}: x}}], imports [{{{kind}: {{account: C, subject: x}}}}] }}
                 B {{ exports [{{{kind}: x}}], imports [{{{kind}: {{account: A, subject: x}}}}] }}
                 C {{ exports [{{{kind}: x}}], imports [{{{kind}: {{account: B, subject: x}}}}] }} }}"
            ))
        };
        for kind in ["service", "stream"] {
            let expected = format!("Error adding {kind} import \"x\": import forms a cycle");
            assert_eq!(ring(kind), [expected]);
        }
    }

    // proves: ACC-19
    #[test]
    fn mappings_that_make_no_sense_are_refused_in_the_words_of_the_reference() {
        let cases = [
            (
                "foo: [{dest: a, weight: 30},{dest: a, weight: 20}]",
                "Error adding mapping for \"foo\" : duplicate entry for \"a\"",
            ),
            (
                "foo: [{dest: a, weight: 80},{dest: b, weight: 30}]",
                "Error adding mapping for \"foo\" : total weight needs to be <= 100",
            ),
            (
                "foo: {dest: a}",
                "Missing weight for mapping destination \"a\"",
            ),
            (
                "foo: {dest: a, weight: 101}",
                "Invalid weight 101 for mapping destination",
            ),
            (
                "foo: {dest: a, weight: x}",
                "Invalid weight \"x\" for mapping destination",
            ),
            (
                "foo: {dest: a, weight: 30, zone: x}",
                "Unknown field \"zone\" for mapping destination",
            ),
            (
                "\"foo.*\": \"bar.$2\"",
                "Error adding mapping for \"foo.*\" to \"bar.$2\" : invalid mapping destination: wildcard index out of range in $2: [2]",
            ),
            (
                "\"foo.>\": \"bar\"",
                "Error adding mapping for \"foo.>\" to \"bar\" : invalid subject",
            ),
            (
                "foo: \"b ar\"",
                "Error adding mapping for \"foo\" to \"b ar\" : invalid mapping destination: invalid transform",
            ),
            ("\"a..b\": c", "Subject \"a..b\" is not a valid subject"),
            ("foo: 3", "Expected an entry for the mapping destination"),
        ];
        for (mapping, expected) in cases {
            assert_eq!(errors(&format!("mappings {{\n{mapping}\n}}")), [expected]);
        }
    }
}
