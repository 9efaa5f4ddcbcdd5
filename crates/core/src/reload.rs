//! New options for a running broker. What may change at all was decided before.

use std::sync::Arc;

use millrace_clock::Now;
use millrace_config::Options;

use crate::broker::Broker;

impl Broker {
    /// Applies new options to the running broker; what cannot change was refused before.
    pub fn apply_options(&mut self, _now: Now, options: Arc<Options>) {
        self.options = options;
    }
}
