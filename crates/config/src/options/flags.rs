//! Feature flags: names under which the reference keeps behaviour that is new or old.

use std::collections::BTreeMap;

use super::Options;

/// Flags of the reference. None of them is in effect here, whatever it is set to: what they turn on
/// this server does not have, or has no need of.
const KNOWN: [&str; 4] = [
    "js_ack_fc_v2",
    "js_api_reply_v2",
    "js_raft_delete_range",
    "js_snapshot_sources",
];

impl Options {
    /// Every known flag and whether it is in effect.
    #[must_use]
    pub fn flags_in_effect() -> BTreeMap<&'static str, bool> {
        KNOWN.into_iter().map(|name| (name, false)).collect()
    }

    /// What is to be said of flags that were set, one line each.
    #[must_use]
    pub fn flag_lines(&self) -> Vec<String> {
        let flags = self.feature_flags.iter();
        let lines = flags.filter_map(|(name, is_set)| {
            if !KNOWN.contains(&name.as_str()) {
                return Some(format!("feature flag {name:?} is not known"));
            }
            is_set.then(|| format!("feature flag {name:?} is set but not active"))
        });
        lines.collect()
    }
}
