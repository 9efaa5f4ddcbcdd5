//! What accounts share and how they map subjects: exports, imports, mappings, traces.

use std::collections::BTreeMap;

use millrace_subject::{Mapping, MappingDestination};

/// How long a response may take if the export does not say: two minutes.
const RESPONSE_THRESHOLD_NS: u64 = 120_000_000_000;

/// Which way messages flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedKind {
    /// Messages of the exporter reach the importer.
    #[default]
    Stream,
    /// Requests of the importer reach the exporter.
    Service,
}

impl SharedKind {
    /// The word in configurations and texts.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Service => "service",
        }
    }
}

/// How many messages answer a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseType {
    /// One.
    #[default]
    Singleton,
    /// Any number, until none came for the threshold.
    Stream,
    /// Several, the last one empty.
    Chunked,
}

impl ResponseType {
    /// The name in tokens and monitoring.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Singleton => "Singleton",
            Self::Stream => "Stream",
            Self::Chunked => "Chunked",
        }
    }
}

/// Measuring how long a service takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyOptions {
    /// Where measurements are published.
    pub subject: String,
    /// Share of requests in percent; 0: those whose headers ask for it.
    pub sampling: u8,
}

/// Something that other accounts may import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportOptions {
    /// Which way messages flow.
    pub kind: SharedKind,
    /// What is exported.
    pub subject: String,
    /// The only accounts that may import it; `None`: all.
    pub accounts: Option<Vec<String>>,
    /// The importer needs a token of the exporter.
    pub needs_token: bool,
    /// Importers' tokens made until that second do not hold; by account key or `*`.
    pub revocations: BTreeMap<String, i64>,
    /// Place of the token, counted from 1, that must be the importer's name; 0 for none.
    pub account_token_position: usize,
    /// How many messages answer a request.
    pub response_type: ResponseType,
    /// How long a response may take.
    pub response_threshold_ns: u64,
    /// Whether and where response times are published.
    pub latency: Option<LatencyOptions>,
    /// Traces of messages go on in the exporting account.
    pub allow_trace: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            kind: SharedKind::Stream,
            subject: String::new(),
            accounts: None,
            needs_token: false,
            revocations: BTreeMap::new(),
            account_token_position: 0,
            response_type: ResponseType::Singleton,
            response_threshold_ns: RESPONSE_THRESHOLD_NS,
            latency: None,
            allow_trace: false,
        }
    }
}

/// Something imported from another account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Which way messages flow.
    pub kind: SharedKind,
    /// The exporting account.
    pub account: String,
    /// The subject there.
    pub subject: String,
    /// The subject here, wildcards as `*`, `$1` or `{{wildcard(1)}}`; empty for the same.
    pub local: String,
    /// Stands before the subject of a stream; empty for none.
    pub prefix: String,
    /// Requests say who asks.
    pub share: bool,
    /// Traces of messages go on in the importing account.
    pub allow_trace: bool,
    /// The importer has a valid token of the exporter; when it was made, in seconds.
    pub activated_at_s: Option<i64>,
    /// Until when that token holds, in seconds; 0 for ever.
    pub expires_s: i64,
}

impl ImportOptions {
    /// The subject in the importing account.
    #[must_use]
    pub fn local_subject(&self) -> String {
        match (self.prefix.trim_end_matches('.'), self.local.as_str()) {
            ("", "") => self.subject.clone(),
            ("", local) => local.to_owned(),
            (prefix, _) => format!("{prefix}.{}", self.subject),
        }
    }
}

/// A mapping of subjects as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingOptions {
    /// The subject before, wildcards allowed.
    pub source: String,
    /// Where it goes, with weights.
    pub destinations: Vec<MappingDestination>,
    /// Both, checked.
    pub compiled: Mapping,
}

/// Traces of messages that carry a `traceparent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageTraceOptions {
    /// Where traces are published; empty for nowhere.
    pub destination: String,
    /// Share of messages in percent.
    pub sampling: u8,
}
