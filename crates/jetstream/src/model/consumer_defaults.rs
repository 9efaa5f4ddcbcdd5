//! What absent fields of a consumer configuration become (spec jetstream/04 §1), and what
//! pedantic requests are refused for instead. Part of `consumer_rules`.

use super::consumer_config::ConsumerConfig;
use super::consumer_rules::{ConsumerContext, FLOW_CONTROL_HEARTBEAT_NS};
use super::enums::{AckPolicy, PriorityPolicy};
use crate::error::{ApiError, ErrorCode};

const SECOND_NS: i64 = 1_000_000_000;
const DEFAULT_ACK_WAIT_NS: i64 = 30 * SECOND_NS;
const DEFAULT_MAX_WAITING: i64 = 512;
const DEFAULT_MAX_ACK_PENDING: i64 = 1000;
const DEFAULT_PIN_TIMEOUT_NS: i64 = 120 * SECOND_NS;
const EPHEMERAL_THRESHOLD_NS: i64 = 5 * SECOND_NS;

fn pedantic_error(text: impl std::fmt::Display) -> ApiError {
    ErrorCode::Pedantic.with(text)
}

pub(super) fn set(
    context: &ConsumerContext<'_>,
    config: &mut ConsumerConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    if config.max_deliver < -1 && pedantic {
        return Err(pedantic_error("max_deliver must be set to -1"));
    }
    if config.max_deliver <= 0 {
        config.max_deliver = -1;
    }
    set_ack_wait(config, pedantic)?;
    set_at_least_zero(config, pedantic)?;
    if config.ack_policy == AckPolicy::FlowControl && config.is_push() && !pedantic {
        config.flow_control = true;
        config.idle_heartbeat_ns = FLOW_CONTROL_HEARTBEAT_NS;
    }
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = DEFAULT_MAX_WAITING;
    }
    set_from_stream(context, config, pedantic)?;
    if config.max_ack_pending < -1 {
        if pedantic {
            return Err(pedantic_error("max_ack_pending must be set to -1"));
        }
        config.max_ack_pending = -1;
    }
    if config.ack_policy != AckPolicy::None && config.max_ack_pending == 0 {
        let caps = [context.max_ack_pending, context.limits.max_ack_pending];
        config.max_ack_pending = caps
            .into_iter()
            .filter(|cap| *cap > 0)
            .fold(DEFAULT_MAX_ACK_PENDING, i64::min);
    }
    if config.max_request_batch == 0 && context.max_request_batch > 0 && !config.is_push() {
        config.max_request_batch = context.max_request_batch;
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout_ns == 0 {
        config.priority_timeout_ns = DEFAULT_PIN_TIMEOUT_NS;
    }
    Ok(())
}

fn set_ack_wait(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    let waits = matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All);
    if let Some(first_ns) = config.backoff_ns.first().copied() {
        if pedantic && config.ack_wait_ns != 0 && config.ack_wait_ns != first_ns {
            return Err(pedantic_error(
                "first backoff value has to equal batch AckWait",
            ));
        }
        config.ack_wait_ns = first_ns;
    } else if config.ack_wait_ns == 0 && waits {
        config.ack_wait_ns = DEFAULT_ACK_WAIT_NS;
    }
    Ok(())
}

/// Negative sizes and durations mean "not set".
fn set_at_least_zero(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    let fields = [
        ("max_waiting", &mut config.max_waiting),
        ("max_batch", &mut config.max_request_batch),
        ("max_expires", &mut config.max_request_expires_ns),
        ("max_bytes", &mut config.max_request_max_bytes),
        ("idle_heartbeat", &mut config.idle_heartbeat_ns),
        ("inactive_threshold", &mut config.inactive_threshold_ns),
        ("priority_timeout", &mut config.priority_timeout_ns),
    ];
    for (name, value) in fields {
        if *value < 0 {
            if pedantic {
                return Err(pedantic_error(format!("{name} must not be negative")));
            }
            *value = 0;
        }
    }
    Ok(())
}

/// The stream's `consumer_limits` are defaults too.
fn set_from_stream(
    context: &ConsumerContext<'_>,
    config: &mut ConsumerConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    let limits = context.stream.consumer_limits;
    if config.max_ack_pending == 0 && limits.max_ack_pending > 0 {
        if pedantic {
            return Err(pedantic_error(
                "max_ack_pending must be set if it's configured in stream limits",
            ));
        }
        config.max_ack_pending = limits.max_ack_pending;
    }
    if config.inactive_threshold_ns == 0 && limits.inactive_threshold_ns > 0 {
        if pedantic {
            return Err(pedantic_error(
                "inactive_threshold must be set if it's configured in stream limits",
            ));
        }
        config.inactive_threshold_ns = limits.inactive_threshold_ns;
    }
    Ok(())
}

/// Ephemeral consumers always have a threshold. The reference fills it in late, which is why a
/// repeated `create` of an ephemeral consumer differs from what is stored.
pub(super) fn set_ephemeral_threshold(config: &mut ConsumerConfig, was_ephemeral: bool) {
    if config.inactive_threshold_ns == 0 && (was_ephemeral || !config.is_durable()) {
        config.inactive_threshold_ns = EPHEMERAL_THRESHOLD_NS;
    }
}
