//! The one list of features that are not built yet, with the error a client gets for each. It only
//! shrinks. Validation (`stream_rules`, `consumer_rules`) comes first and answers as the reference.

use super::stream_config::StreamConfig;
use crate::error::{ApiError, ErrorCode};

/// What is wrong with `config` for this version, if it needs a feature that is not built.
#[must_use]
pub fn unsupported(config: &StreamConfig) -> Option<ApiError> {
    let missing = [(
        !config.sources.is_empty() && config.allow_msg_counter,
        "counters with sources are",
    )];
    let (_, feature) = missing.iter().find(|(wanted, _)| *wanted)?;
    Some(ErrorCode::StreamInvalidConfig.with(format!("{feature} not supported yet")))
}
