//! Subjects that clients may not use because servers speak on them (spec core/02 §2.5).

use crate::ids::AccountId;

/// Replies on their way through gateways, today's form and the old one.
const GATEWAY_REPLIES: [&[u8]; 2] = [b"_GR_.", b"$GR."];
/// Replies of service imports.
pub(crate) const SERVICE_REPLY: &[u8] = b"_R_.";
/// Acknowledgements of JetStream consumers.
const JETSTREAM_ACK: &[u8] = b"$JS.ACK.";
/// Raft traffic between servers.
const RAFT: &[u8] = b"$NRG.";
/// The queue group that servers use among themselves.
pub(crate) const SYSTEM_QUEUE: &[u8] = b"_sys_";

/// Whether a client of `account` may not publish to `subject`, whatever its permissions.
pub(crate) fn is_refused_subject(subject: &[u8], account: AccountId) -> bool {
    match subject.first() {
        Some(b'_') => subject.starts_with(GATEWAY_REPLIES[0]),
        Some(b'$') => {
            subject.starts_with(GATEWAY_REPLIES[1])
                || (subject.starts_with(RAFT) && account != AccountId::SYSTEM)
        }
        _ => false,
    }
}

/// Whether a client may not use `reply` as a reply subject.
pub(crate) fn is_refused_reply(reply: &[u8]) -> bool {
    match reply.first() {
        Some(b'_') => reply.starts_with(SERVICE_REPLY) || reply.starts_with(GATEWAY_REPLIES[0]),
        Some(b'$') => reply.starts_with(JETSTREAM_ACK) || reply.starts_with(GATEWAY_REPLIES[1]),
        _ => false,
    }
}
