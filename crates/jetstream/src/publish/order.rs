//! In which order the checks of a publish run: the order decides which of several violations is
//! reported, and the reference has three of them (spec jetstream/02 §3).

use super::checks::{self, CheckFunction};
use super::schedules;

/// An ordinary publish to a stream with one replica (02 §3.1).
pub const R1: &[CheckFunction] = &[
    checks::record_size,
    checks::sealed,
    checks::counter_headers,
    checks::expected_stream,
    checks::ttl_disabled_if_valid,
    checks::expected_subject_sequence,
    checks::subject_without_sequence,
    checks::expected_last_sequence,
    schedules::schedules,
    checks::source_header,
    checks::duplicate,
    checks::expected_last_message_id,
    checks::rollup,
    checks::counter_missing,
    checks::counter_value,
    checks::message_size,
    checks::header_size,
    checks::server_limits,
    checks::interest,
    checks::account_limits,
    checks::ttl_value,
    checks::discard_new,
];

/// [`R1`] without what only a message with headers of the server's own can fail.
pub const R1_PLAIN: &[CheckFunction] = &[
    checks::record_size,
    checks::sealed,
    checks::counter_missing,
    checks::message_size,
    checks::header_size,
    checks::server_limits,
    checks::interest,
    checks::account_limits,
    checks::discard_new,
];

/// An ordinary publish to a replicated stream (02 §3.2). The expected message id is checked before
/// proposing here too, where the reference finds out too late (02 §3.2, reference bug).
pub const REPLICATED: &[CheckFunction] = &[
    checks::sealed,
    checks::server_limits,
    checks::account_limits,
    checks::message_size,
    checks::record_size,
    checks::header_size,
    checks::counter_headers,
    checks::expected_stream,
    checks::ttl_disabled,
    checks::ttl_value,
    checks::duplicate_exclusive,
    checks::source_header,
    checks::counter_missing,
    checks::counter_value,
    checks::expected_last_sequence,
    checks::expected_subject_sequence_exclusive,
    checks::subject_without_sequence,
    schedules::schedules,
    checks::rollup,
    checks::expected_last_message_id,
    checks::interest,
    checks::discard_new,
];

/// A message of a batch at its arrival (03 §2 rows 2 to 5).
pub const BATCH_ARRIVAL: &[CheckFunction] = &[
    checks::sealed,
    checks::server_limits,
    checks::account_limits,
    checks::message_size,
];

/// A message of a batch at commit, on every kind of stream (02 §3.2).
pub const BATCH_COMMIT: &[CheckFunction] = &[
    checks::record_size,
    checks::header_size,
    checks::counter_headers,
    checks::expected_stream,
    checks::ttl_disabled,
    checks::ttl_value,
    checks::duplicate_in_batch,
    checks::source_header,
    checks::counter_missing,
    checks::counter_value,
    checks::expected_last_sequence,
    checks::expected_last_sequence_first_only,
    checks::expected_subject_sequence_exclusive,
    checks::subject_without_sequence,
    schedules::schedules,
    checks::rollup,
    checks::rollup_in_batch,
    checks::interest,
    checks::discard_new,
];

/// [`BATCH_COMMIT`] without what only a message with headers of the server's own can fail.
pub const BATCH_COMMIT_PLAIN: &[CheckFunction] = &[
    checks::record_size,
    checks::header_size,
    checks::counter_missing,
    checks::interest,
    checks::discard_new,
];

/// A fast ingest message (03 §7): the replicated order, but nothing of a stream with one replica
/// conflicts with what is in flight. The expected message id is checked here, where the reference
/// finds out too late to end the batch.
pub const FAST: &[CheckFunction] = &[
    checks::record_size,
    checks::header_size,
    checks::counter_headers,
    checks::expected_stream,
    checks::ttl_disabled,
    checks::ttl_value,
    checks::duplicate,
    checks::source_header,
    checks::counter_missing,
    checks::counter_value,
    checks::expected_last_sequence,
    checks::expected_subject_sequence,
    checks::subject_without_sequence,
    schedules::schedules,
    checks::rollup,
    checks::expected_last_message_id,
    checks::interest,
    checks::discard_new,
];

/// [`FAST`] on a replicated stream.
pub const FAST_REPLICATED: &[CheckFunction] = &[
    checks::record_size,
    checks::header_size,
    checks::counter_headers,
    checks::expected_stream,
    checks::ttl_disabled,
    checks::ttl_value,
    checks::duplicate_exclusive,
    checks::source_header,
    checks::counter_missing,
    checks::counter_value,
    checks::expected_last_sequence,
    checks::expected_subject_sequence_exclusive,
    checks::subject_without_sequence,
    schedules::schedules,
    checks::rollup,
    checks::expected_last_message_id,
    checks::interest,
    checks::discard_new,
];

/// What a schedule produced, and the marker of a subject that expired: nothing of it depends on a
/// client.
pub const OWN: &[CheckFunction] = &[
    checks::message_size,
    checks::header_size,
    checks::server_limits,
    checks::interest,
    checks::account_limits,
    checks::ttl_value,
    checks::rollup,
];
