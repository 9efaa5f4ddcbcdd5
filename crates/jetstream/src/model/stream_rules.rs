//! Whether a stream may be created or updated, and what its configuration becomes (spec
//! jetstream/01 §2 and §3). Checks stand in the reference's order: the first that fails answers.
//! Mirrors and sources have their own rules in `source_rules`.

use millrace_subject::{Transform, is_subset, is_valid_subject, overlaps};

use super::context::StreamContext;
use super::enums::{DiscardPolicy, PersistMode, RetentionPolicy, StorageKind};
use super::metadata::{set_required_level, stream_api_level};
use super::names::{
    MAX_DESCRIPTION_LENGTH, MAX_METADATA_LENGTH, MAX_NAME_LENGTH, has_path_separator, is_valid_name,
};
use super::source_rules;
use super::stream_config::StreamConfig;
use crate::error::{ApiError, ErrorCode};

const MAX_REPLICAS: i64 = 5;
const MILLISECOND_NS: i64 = 1_000_000;
const SECOND_NS: i64 = 1_000_000_000;
const DEFAULT_DUPLICATE_WINDOW_NS: i64 = 120 * SECOND_NS;
const MIN_AGE_NS: i64 = 100 * MILLISECOND_NS;
const MIN_DUPLICATE_WINDOW_NS: i64 = 100 * MILLISECOND_NS;

/// A create request that passed all checks.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedCreate {
    /// The configuration to store.
    pub config: StreamConfig,
    /// The same stream exists already: success, nothing to do.
    pub exists: bool,
}

pub(super) fn invalid(text: impl std::fmt::Display) -> ApiError {
    ErrorCode::StreamInvalidConfig.with(text)
}

/// Checks a create request for the stream `subject_name` (last token of the API subject).
///
/// # Errors
/// The first rule that is broken, with the reference's code and text.
pub fn check_create(
    context: &StreamContext<'_>,
    subject_name: &str,
    request: StreamConfig,
) -> Result<CheckedCreate, ApiError> {
    if request.name != subject_name {
        return Err(ErrorCode::StreamMismatch.into());
    }
    if has_path_separator(&request.name) {
        return Err(ErrorCode::StreamNameContainsPathSeparators.into());
    }
    if request.sealed {
        return Err(invalid("stream configuration for create can not be sealed"));
    }
    if request.mirror_direct && request.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    // Room in the account comes before what is wrong with the configuration itself.
    if context.streams.find(&request.name).is_none() {
        check_account(context, &request)?;
    }
    let config = normalise_and_check(context, request)?;
    if context.standalone && config.num_replicas > 1 {
        return Err(ErrorCode::StreamReplicasNotSupported.into());
    }
    if let Some(existing) = context.streams.find(&config.name) {
        if *existing == config {
            return Ok(CheckedCreate {
                config,
                exists: true,
            });
        }
        return Err(ErrorCode::StreamNameExist.into());
    }
    check_other_streams(context, &config)?;
    source_rules::check_filters(&config)?;
    Ok(CheckedCreate {
        config,
        exists: false,
    })
}

/// Checks an update of `current`, the stream `subject_name` as it is (`None`: there is no such
/// stream). Absent fields of the request mean defaults.
///
/// # Errors
/// The first rule that is broken, with the reference's code and text.
pub fn check_update(
    context: &StreamContext<'_>,
    subject_name: &str,
    current: Option<&StreamConfig>,
    request: StreamConfig,
) -> Result<StreamConfig, ApiError> {
    let mut config = normalise_and_check(context, request)?;
    if config.name != subject_name {
        return Err(ErrorCode::StreamMismatch.into());
    }
    let Some(current) = current else {
        return Err(ErrorCode::StreamNotFound.into());
    };
    if config.mirror_direct && config.mirror.is_none() && current.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    check_change(current, &config)?;
    if context.standalone && config.num_replicas > 1 {
        return Err(ErrorCode::StreamReplicasNotSupported.into());
    }
    check_other_streams(context, &config)?;
    if config.max_bytes > current.max_bytes.max(0) {
        check_reservation(context, &config, current.max_bytes.max(0))?;
    }
    if config.sealed {
        seal(&mut config);
    }
    Ok(config)
}

/// What sealing forces.
fn seal(config: &mut StreamConfig) {
    config.max_age_ns = 0;
    config.discard = DiscardPolicy::New;
    config.deny_delete = true;
    config.deny_purge = true;
    config.allow_rollup_hdrs = false;
}

/// The checks and defaults that create and update share.
fn normalise_and_check(
    context: &StreamContext<'_>,
    mut config: StreamConfig,
) -> Result<StreamConfig, ApiError> {
    let pedantic = std::mem::take(&mut config.pedantic);
    let level = stream_api_level(&config);
    check_basics(&mut config, pedantic)?;
    set_duplicate_window(context, &mut config, pedantic)?;
    check_features(&mut config, pedantic)?;
    source_rules::check(context, &mut config, pedantic)?;
    check_subjects(&mut config)?;
    check_limits_of_account(context, &config)?;
    check_transform(&config)?;
    check_republish(&mut config, pedantic)?;
    check_placement(&mut config)?;
    set_required_level(&mut config.metadata, level);
    Ok(config)
}

fn check_basics(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !is_valid_name(&config.name) {
        return Err(invalid(
            "stream name is required and can not contain '.', '*', '>', '\\', '/'",
        ));
    }
    if config.name.len() > MAX_NAME_LENGTH {
        return Err(invalid(format!(
            "stream name is too long, maximum allowed is {MAX_NAME_LENGTH}"
        )));
    }
    if config.description.len() > MAX_DESCRIPTION_LENGTH {
        return Err(invalid(format!(
            "stream description is too long, maximum allowed is {MAX_DESCRIPTION_LENGTH}"
        )));
    }
    let metadata_length: usize = config
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if metadata_length > MAX_METADATA_LENGTH {
        return Err(invalid(format!(
            "stream metadata exceeds maximum size of {MAX_METADATA_LENGTH} bytes"
        )));
    }
    match config.num_replicas {
        0 => config.num_replicas = 1,
        count if count > MAX_REPLICAS => {
            return Err(invalid(format!("maximum replicas is {MAX_REPLICAS}")));
        }
        count if count < 0 => return Err(ErrorCode::ReplicasCountCannotBeNegative.into()),
        _ => {}
    }
    normalise_limits(config, pedantic)?;
    if config.max_age_ns < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age_ns != 0 && config.max_age_ns < MIN_AGE_NS {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    Ok(())
}

/// Limits of 0 or below mean "no limit", which is stored as -1.
fn normalise_limits(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let mut size = i64::from(config.max_msg_size);
    let limits = [
        ("max_msgs", &mut config.max_msgs),
        ("max_msgs_per_subject", &mut config.max_msgs_per_subject),
        ("max_bytes", &mut config.max_bytes),
        ("max_msg_size", &mut size),
        ("max_consumers", &mut config.max_consumers),
    ];
    for (name, value) in limits {
        if *value < -1 && pedantic {
            return Err(ErrorCode::Pedantic.with(format!("{name} must be set to -1")));
        }
        if *value <= 0 {
            *value = -1;
        }
    }
    config.max_msg_size = i32::try_from(size).unwrap_or(-1);
    Ok(())
}

fn set_duplicate_window(
    context: &StreamContext<'_>,
    config: &mut StreamConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    let server_limit_ns = context.max_duplicate_window_ns;
    if config.duplicate_window_ns == 0 && config.mirror.is_none() && config.sources.is_empty() {
        let mut window_ns = DEFAULT_DUPLICATE_WINDOW_NS;
        if server_limit_ns > 0 && window_ns > server_limit_ns {
            if pedantic {
                return Err(ErrorCode::Pedantic
                    .with("duplicate window limits are higher than current limits"));
            }
            window_ns = server_limit_ns;
        }
        if config.max_age_ns != 0 && config.max_age_ns < window_ns {
            if pedantic {
                return Err(
                    ErrorCode::Pedantic.with("duplicate window cannot be bigger than max age")
                );
            }
            window_ns = config.max_age_ns;
        }
        config.duplicate_window_ns = window_ns;
    }
    let window_ns = config.duplicate_window_ns;
    if window_ns < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    // "then" is the reference's spelling.
    if config.max_age_ns != 0 && window_ns > config.max_age_ns {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if server_limit_ns > 0 && window_ns > server_limit_ns {
        let limit = millrace_clock::go_duration::format(server_limit_ns);
        return Err(invalid(format!(
            "duplicates window can not be larger then server limit of {limit}"
        )));
    }
    if window_ns > 0 && window_ns < MIN_DUPLICATE_WINDOW_NS {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

fn check_features(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    if config.allow_msg_counter {
        check_counter(config)?;
    }
    if config.discard_new_per_subject {
        if config.discard != DiscardPolicy::New {
            return Err(invalid(
                "discard new per subject requires discard new policy to be set",
            ));
        }
        if config.max_msgs_per_subject <= 0 {
            return Err(invalid(
                "discard new per subject requires max msgs per subject > 0",
            ));
        }
    }
    check_markers(config, pedantic)?;
    check_schedules(config, pedantic)?;
    if config.persist_mode == PersistMode::Async {
        if config.storage == StorageKind::Memory {
            return Err(invalid(
                "async persist mode is only supported on file storage",
            ));
        }
        if config.num_replicas > 1 {
            return Err(invalid(
                "async persist mode is not supported on replicated streams",
            ));
        }
        if config.allow_atomic {
            return Err(invalid(
                "async persist mode is not supported with atomic batch publish",
            ));
        }
    }
    Ok(())
}

fn check_counter(config: &StreamConfig) -> Result<(), ApiError> {
    if config.discard == DiscardPolicy::New {
        return Err(invalid("counter stream cannot use discard new"));
    }
    if config.allow_msg_ttl {
        return Err(invalid("counter stream cannot use message TTLs"));
    }
    if config.allow_msg_schedules {
        return Err(invalid("counter stream cannot use message schedules"));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err(invalid("counter stream can only use limits retention"));
    }
    Ok(())
}

fn check_markers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.subject_delete_marker_ttl_ns < 0 {
        return Err(invalid("subject delete marker TTL must not be negative"));
    }
    if config.subject_delete_marker_ttl_ns == 0 {
        return Ok(());
    }
    if config.subject_delete_marker_ttl_ns < SECOND_NS {
        return Err(invalid(
            "subject delete marker TTL must be at least 1 second",
        ));
    }
    if config.mirror.is_some() {
        // `source_rules` refuses it with its own text.
        return Ok(());
    }
    if pedantic && !config.allow_msg_ttl {
        return Err(invalid(
            "subject delete marker cannot be set if message TTLs are disabled",
        ));
    }
    if pedantic && !config.allow_rollup_hdrs {
        return Err(invalid(
            "subject delete marker cannot be set if roll-ups are disabled",
        ));
    }
    config.allow_msg_ttl = true;
    allow_rollups(config);
    Ok(())
}

fn check_schedules(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !config.allow_msg_schedules {
        return Ok(());
    }
    if config.discard == DiscardPolicy::New {
        return Err(invalid("message scheduling cannot use discard new"));
    }
    if config.mirror.is_some() || !config.sources.is_empty() {
        return Ok(());
    }
    if pedantic && !config.allow_rollup_hdrs {
        return Err(invalid(
            "message scheduling cannot be set if roll-ups are disabled",
        ));
    }
    allow_rollups(config);
    Ok(())
}

fn allow_rollups(config: &mut StreamConfig) {
    config.allow_rollup_hdrs = true;
    config.deny_purge = false;
}

const API_SUBJECTS: [&[u8]; 3] = [b"$JS.>", b"$JSC.>", b"$NRG.>"];
const API_EVENT_SUBJECTS: &[u8] = b"$JS.EVENT.>";
const SYSTEM_SUBJECTS: &[u8] = b"$SYS.>";
const SYSTEM_ACCOUNT_SUBJECTS: &[u8] = b"$SYS.ACCOUNT.>";

fn check_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() {
        if config.mirror.is_none() && config.sources.is_empty() {
            config.subjects.push(config.name.clone());
        }
        return Ok(());
    }
    for (position, text) in config.subjects.iter().enumerate() {
        let subject = text.as_bytes();
        if !is_valid_subject(subject) {
            return Err(invalid("invalid subject"));
        }
        if subject == b">" {
            if !config.no_ack {
                return Err(invalid("capturing all subjects requires no-ack to be true"));
            }
            if config.num_replicas != 1 {
                return Err(invalid("capturing all subjects requires replicas of 1"));
            }
        }
        if !config.no_ack {
            check_reserved(subject)?;
        }
        for earlier in config.subjects.iter().take(position) {
            if overlaps(earlier.as_bytes(), subject) {
                return Err(invalid(format!(
                    "subject \"{earlier}\" overlaps with \"{text}\""
                )));
            }
        }
    }
    Ok(())
}

/// Subjects of the server itself may be captured only by streams that never answer.
fn check_reserved(subject: &[u8]) -> Result<(), ApiError> {
    let of_api = API_SUBJECTS
        .iter()
        .any(|reserved| overlaps(subject, reserved));
    if of_api && !is_subset(subject, API_EVENT_SUBJECTS) {
        return Err(invalid(
            "subjects that overlap with jetstream api require no-ack to be true",
        ));
    }
    if overlaps(subject, SYSTEM_SUBJECTS) && !is_subset(subject, SYSTEM_ACCOUNT_SUBJECTS) {
        return Err(invalid(
            "subjects that overlap with system api require no-ack to be true",
        ));
    }
    Ok(())
}

fn check_limits_of_account(
    context: &StreamContext<'_>,
    config: &StreamConfig,
) -> Result<(), ApiError> {
    let limits = context.limits;
    if limits.max_bytes_required && config.max_bytes <= 0 {
        return Err(ErrorCode::StreamMaxBytesRequired.into());
    }
    let per_stream = match config.storage {
        StorageKind::Memory => limits.memory_max_stream_bytes,
        StorageKind::File => limits.storage_max_stream_bytes,
    };
    if per_stream > 0 && config.max_bytes > per_stream {
        return Err(ErrorCode::StreamMaxStreamBytesExceeded.into());
    }
    Ok(())
}

fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    let Some(transform) = &config.subject_transform else {
        return Ok(());
    };
    if !transform.src.is_empty() && !is_valid_subject(transform.src.as_bytes()) {
        return Err(ErrorCode::StreamTransformInvalidSource
            .with(format!("invalid subject {}", transform.src)));
    }
    if transform.dest.is_empty() {
        return Ok(());
    }
    Transform::new(transform.src.as_bytes(), transform.dest.as_bytes())
        .map(|_| ())
        .map_err(|error| ErrorCode::StreamTransformInvalidDestination.with(error))
}

fn check_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else {
        return Ok(());
    };
    if republish.src.is_empty() {
        if pedantic {
            return Err(ErrorCode::Pedantic.with("republish source can not be empty"));
        }
        republish.src = ">".to_owned();
    }
    // Everything to everything would loop, unless a transform moves it away first.
    if republish.src == ">"
        && republish.dest == ">"
        && let Some(transform) = &config.subject_transform
        && config.subjects.len() == 1
        && config.subjects.first() == Some(&transform.src)
    {
        if pedantic {
            return Err(ErrorCode::Pedantic.with("implicit republish based on subject transform"));
        }
        republish.src.clone_from(&transform.dest);
        republish.dest.clone_from(&transform.dest);
    }
    let destination = republish.dest.as_bytes();
    if config
        .subjects
        .iter()
        .any(|subject| overlaps(subject.as_bytes(), destination))
    {
        return Err(invalid(
            "stream configuration for republish destination forms a cycle",
        ));
    }
    if !destination.is_empty() && Transform::new(republish.src.as_bytes(), destination).is_err() {
        return Err(invalid(format!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.src, republish.dest
        )));
    }
    Ok(())
}

fn check_placement(config: &mut StreamConfig) -> Result<(), ApiError> {
    if let Some(placement) = &config.placement {
        if !placement.preferred.is_empty() {
            return Err(invalid("preferred server not permitted in placement"));
        }
        if placement.cluster.is_empty() && placement.tags.is_empty() {
            config.placement = None;
        }
    }
    Ok(())
}

/// Limits of the account that a new stream must fit in.
fn check_account(context: &StreamContext<'_>, config: &StreamConfig) -> Result<(), ApiError> {
    let limits = context.limits;
    if limits.max_streams >= 0 && context.stream_count() >= limits.max_streams {
        return Err(ErrorCode::MaximumStreamsLimit.into());
    }
    if limits.max_consumers >= 0 && config.max_consumers > limits.max_consumers {
        return Err(ErrorCode::MaximumConsumersLimit.into());
    }
    check_reservation(context, config, 0)
}

/// Whether `max_bytes` (of which `held` are reserved already) still fits in account and server.
fn check_reservation(
    context: &StreamContext<'_>,
    config: &StreamConfig,
    held: i64,
) -> Result<(), ApiError> {
    let (limit, free, error) = match config.storage {
        StorageKind::Memory => (
            context.limits.max_memory,
            context.free_memory,
            ErrorCode::MemoryResourcesExceeded,
        ),
        StorageKind::File => (
            context.limits.max_storage,
            context.free_storage,
            ErrorCode::StorageResourcesExceeded,
        ),
    };
    if config.max_bytes <= 0 {
        return Ok(());
    }
    let reserved = context.reserved(config.storage, &config.name);
    let over_account = limit > 0 && reserved.saturating_add(config.max_bytes) > limit;
    if over_account || config.max_bytes - held > free {
        return Err(error.into());
    }
    Ok(())
}

/// No two streams of an account may want the same message.
fn check_other_streams(context: &StreamContext<'_>, config: &StreamConfig) -> Result<(), ApiError> {
    let mut clash = false;
    context.streams.for_each(&mut |other| {
        clash |= other.name != config.name
            && other
                .subject_filters()
                .any(|theirs| config.subject_filters().any(|ours| overlaps(ours, theirs)));
    });
    if clash {
        Err(ErrorCode::StreamSubjectOverlap.into())
    } else {
        Ok(())
    }
}

/// What an update may not change.
fn check_change(current: &StreamConfig, config: &StreamConfig) -> Result<(), ApiError> {
    let no_change = |what: &str| invalid(format!("stream configuration update can not {what}"));
    if config.name != current.name {
        return Err(invalid("stream configuration name must match original"));
    }
    if config.storage != current.storage {
        return Err(no_change("change storage type"));
    }
    let work_queue = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
    if work_queue(config) != work_queue(current) {
        return Err(no_change("change retention policy to/from workqueue"));
    }
    if current.sealed && !config.sealed {
        return Err(no_change("unseal a sealed stream"));
    }
    if current.deny_delete && !config.deny_delete {
        return Err(no_change("cancel deny message deletes"));
    }
    if current.deny_purge && !config.deny_purge {
        return Err(no_change("cancel deny purge"));
    }
    if config.mirror.is_some() && config.mirror != current.mirror {
        return Err(ErrorCode::StreamMirrorNotUpdatable.into());
    }
    if current.allow_msg_ttl && !config.allow_msg_ttl {
        return Err(invalid("message TTL status can not be disabled"));
    }
    if current.allow_msg_counter != config.allow_msg_counter {
        return Err(no_change("change message counter setting"));
    }
    if current.allow_msg_schedules && !config.allow_msg_schedules {
        return Err(invalid("message schedules can not be disabled"));
    }
    if current.persist_mode != config.persist_mode {
        return Err(no_change("change persist mode"));
    }
    Ok(())
}
