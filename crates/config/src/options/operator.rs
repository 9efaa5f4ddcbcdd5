//! Operator mode: who is trusted to sign accounts, and where account tokens come from.

use std::collections::BTreeMap;

use super::TlsOptions;

/// Where account tokens are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// Nowhere: there is no operator.
    #[default]
    None,
    /// Only what `resolver_preload` lists.
    Memory,
    /// A directory with one file per account, which can be written over the wire.
    Full(FullResolver),
}

/// The resolver that keeps account tokens in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullResolver {
    /// Where the files are.
    pub directory: String,
    /// Most accounts; 0 means no limit.
    pub limit: usize,
    /// Whether accounts may be deleted over the wire.
    pub allow_delete: bool,
    /// Deleted files are removed and not renamed.
    pub hard_delete: bool,
}

/// Operator mode; off without operators and trusted keys. Tokens are as they were written, not
/// verified here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorOptions {
    /// Tokens of operators.
    pub tokens: Vec<String>,
    /// Public keys that may sign accounts, without an operator's token.
    pub trusted_keys: Vec<String>,
    /// Where account tokens are.
    pub resolver: Resolver,
    /// How a resolver that is asked over HTTPS is spoken to.
    pub resolver_tls: Option<TlsOptions>,
    /// Account tokens by public account key.
    pub preload: BTreeMap<String, String>,
    /// Account tokens that the resolver keeps, by public account key. What of them cannot be
    /// verified is left out.
    pub stored: BTreeMap<String, String>,
    /// The token of clients that bring none.
    pub default_sentinel: Option<String>,
    /// If not empty: the only accounts, besides the system account, that users may be of.
    pub pinned_accounts: Vec<String>,
}

impl OperatorOptions {
    /// Whether users are known by tokens and not by the configuration.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.tokens.is_empty() || !self.trusted_keys.is_empty()
    }
}
