//! Checks of messages that are copied from another stream, where they were checked when they were
//! published: what remains is whether this stream has room, and what its own features make of them
//! (spec jetstream/01 §6).

use super::checks::{self, Check, CheckFunction, Ttl, Verdict, parse_ttl};
use super::refusal::Refusal;
use crate::entry::Deadline;

const SECOND_NS: i64 = 1_000_000_000;

/// A message of a mirror: it has its sequence and time.
pub const MIRRORED: &[CheckFunction] = &[
    checks::record_size,
    checks::sealed,
    checks::header_size,
    checks::server_limits,
    checks::account_limits,
    ttl,
    checks::discard_new,
];

/// A message of a source.
pub const SOURCED: &[CheckFunction] = &[
    checks::record_size,
    checks::sealed,
    checks::duplicate,
    rollup,
    checks::message_size,
    checks::header_size,
    checks::server_limits,
    checks::interest,
    checks::account_limits,
    ttl,
    checks::discard_new,
];

/// A time to live counts where the stream allows it; elsewhere it is a header like others.
fn ttl(check: &mut Check<'_>) -> Verdict {
    let text = check.headers.ttl.unwrap_or_default();
    if !check.config.allow_msg_ttl {
        return Verdict::Pass;
    }
    match parse_ttl(text) {
        None => {}
        Some(Ttl::Never) => check.decision.deadline = Deadline::Never,
        Some(Ttl::Seconds(seconds)) => {
            let life_ns = seconds.saturating_mul(SECOND_NS);
            let deadline_ns = check.decision.time_ns.saturating_add(life_ns);
            check.decision.deadline = Deadline::At(deadline_ns.min(i64::MAX - 1));
        }
    }
    Verdict::Pass
}

/// A roll-up that the stream does not permit is a header like others.
fn rollup(check: &mut Check<'_>) -> Verdict {
    match checks::rollup(check) {
        Verdict::Refuse(Refusal::Rollup(_)) => Verdict::Pass,
        other => other,
    }
}

/// Whether a copy that was refused may be stored later, when there is room.
#[must_use]
pub fn may_pass_later(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::StoreFailed(
            "maximum messages exceeded"
                | "maximum bytes exceeded"
                | "maximum messages per subject exceeded"
        ) | Refusal::InsufficientResources
            | Refusal::AccountResources
            | Refusal::Sealed
    )
}
