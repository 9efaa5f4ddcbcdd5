//! A signal ends the run in order: servers are stopped and their data removed.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::control::text;

/// Set once SIGINT or SIGTERM was received.
pub(crate) fn requested() -> &'static Arc<AtomicBool> {
    static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    REQUESTED.get_or_init(Arc::default)
}

pub(crate) fn install() -> Result<(), String> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(requested())).map_err(text)?;
    }
    Ok(())
}
