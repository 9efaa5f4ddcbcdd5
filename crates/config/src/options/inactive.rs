//! Features of the reference that this version checks the configuration of and does not have. What
//! is kept is their names and what checks across blocks need.

/// What the configuration asks for and this server does not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InactiveOptions {
    /// Names of the features, as blocks are called, each once.
    pub features: Vec<&'static str>,
    /// `cluster.name`.
    pub cluster_name: Option<String>,
    /// `gateway.name`.
    pub gateway_name: Option<String>,
    /// `cluster.pool_size`.
    pub pool_size: i64,
    /// `cluster.accounts`.
    pub pinned_accounts: Vec<String>,
    /// Compression modes of all blocks.
    pub compression_modes: Vec<String>,
    /// Local accounts of leaf node remotes.
    pub remote_accounts: Vec<String>,
}

/// Compression modes the reference knows.
const COMPRESSION_MODES: &[&str] = &[
    "",
    "off",
    "disabled",
    "false",
    "accept",
    "on",
    "enabled",
    "true",
    "fast",
    "s2_fast",
    "better",
    "s2_better",
    "best",
    "s2_best",
    "auto",
    "s2_auto",
    "s2_uncompressed",
    "not supported",
    "not_supported",
];

impl InactiveOptions {
    /// Notes a feature.
    pub(crate) fn note(&mut self, feature: &'static str) {
        if !self.features.contains(&feature) {
            self.features.push(feature);
        }
    }

    pub(crate) fn is_noted(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }

    /// One line per feature, for the log.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |feature: &&str| {
            format!("{feature} is configured but not active: this version does not have it yet")
        };
        self.features.iter().map(line).collect()
    }

    /// Contradictions that keep the reference from starting.
    pub(crate) fn validate(
        &self,
        has_jetstream: bool,
        knows: &dyn Fn(&str) -> bool,
    ) -> Result<(), String> {
        let mut modes = self.compression_modes.iter();
        if let Some(mode) =
            modes.find(|mode| !COMPRESSION_MODES.contains(&mode.to_ascii_lowercase().as_str()))
        {
            return Err(format!("unsupported compression mode {mode:?}"));
        }
        let mut accounts = self.remote_accounts.iter();
        if let Some(account) = accounts.find(|name| !knows(name)) {
            return Err(format!(
                "cannot find local account {account:?} specified in leafnode remote"
            ));
        }
        if self.is_noted("mqtt") && !has_jetstream {
            let text = "mqtt requires JetStream to be enabled if running in standalone mode";
            return Err(text.to_owned());
        }
        self.validate_cluster()
    }

    fn validate_cluster(&self) -> Result<(), String> {
        if self.is_noted("gateway") && self.gateway_name.is_none() {
            return Err("gateway has no name".to_owned());
        }
        if let (Some(cluster), Some(gateway)) = (&self.cluster_name, &self.gateway_name)
            && cluster != gateway
        {
            let text = "cluster name conflicts between cluster and gateway definitions";
            return Err(text.to_owned());
        }
        if self.pinned_accounts.is_empty() {
            return Ok(());
        }
        if self.pool_size < 0 {
            let text = "pool_size cannot be negative if pinned accounts are specified";
            return Err(text.to_owned());
        }
        for (at, name) in self.pinned_accounts.iter().enumerate() {
            if self
                .pinned_accounts
                .iter()
                .skip(at + 1)
                .any(|other| other == name)
            {
                return Err(format!(
                    "found duplicate account name {name:?} in pinned accounts list {:?}",
                    self.pinned_accounts
                ));
            }
        }
        Ok(())
    }
}
