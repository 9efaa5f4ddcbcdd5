//! Whether a consumer may be created or updated, and what its configuration becomes (spec
//! jetstream/04 §1). Checks stand in the reference's order: the first that fails answers.
//! Defaults are in `consumer_defaults`.

use millrace_subject::{has_wildcard, is_valid_subject, overlaps};

use super::consumer_config::{ConsumerAction, ConsumerConfig, ConsumerCreateRequest};
use super::consumer_defaults::{self, set_ephemeral_threshold};
use super::enums::{AckPolicy, DeliverPolicy, PriorityPolicy, RetentionPolicy};
use super::info::AccountLimits;
use super::metadata::{consumer_api_level, set_required_level};
use super::names::{
    MAX_DESCRIPTION_LENGTH, MAX_METADATA_LENGTH, MAX_NAME_LENGTH, has_path_separator, is_valid_name,
};
use super::stream_config::StreamConfig;
use super::timestamp::Timestamp;
use crate::error::{ApiError, ErrorCode};

const MILLISECOND_NS: i64 = 1_000_000;
const MIN_HEARTBEAT_NS: i64 = 100 * MILLISECOND_NS;
const MIN_REQUEST_EXPIRES_NS: i64 = MILLISECOND_NS;
const MAX_GROUP_NAME_LENGTH: usize = 16;
/// The only heartbeat that flow control acknowledgements work with.
pub(super) const FLOW_CONTROL_HEARTBEAT_NS: i64 = 1_000_000_000;

/// The stream, account and server around a consumer configuration.
#[derive(Clone, Copy)]
pub struct ConsumerContext<'a> {
    /// No cluster: replicas above one are refused.
    pub standalone: bool,
    /// The stream the consumer reads.
    pub stream: &'a StreamConfig,
    /// Limits of the account.
    pub limits: AccountLimits,
    /// The server's cap of `max_ack_pending`; 0 = none.
    pub max_ack_pending: i64,
    /// The server's cap of a pull request's batch; 0 = none.
    pub max_request_batch: i64,
    /// Consumers of a stream where neither it nor its account says how many; 0 or less: any number.
    pub default_max_consumers: i64,
    /// The stream's consumers.
    pub consumers: &'a [ExistingConsumer<'a>],
    /// Whether somebody listens to a subject (the deliver subject of the consumer as it is).
    pub has_interest: &'a dyn Fn(&[u8]) -> bool,
}

/// A consumer the stream has already.
#[derive(Clone, Copy, Debug)]
pub struct ExistingConsumer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its configuration.
    pub config: &'a ConsumerConfig,
}

/// A request that passed all checks.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckedConsumer {
    /// Make it. An empty name asks for a generated one.
    Create {
        /// Its name.
        name: String,
        /// What to store.
        config: ConsumerConfig,
    },
    /// Give it this configuration.
    Update {
        /// Its name.
        name: String,
        /// What to store.
        config: ConsumerConfig,
    },
    /// It exists with this configuration: success, nothing to do.
    Exists {
        /// Its name.
        name: String,
    },
}

/// How a create request was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerAddress<'a> {
    /// `CONSUMER.DURABLE.CREATE`.
    pub durable: bool,
    /// Stream token.
    pub stream: &'a str,
    /// Consumer token, if there was one.
    pub name: Option<&'a str>,
    /// Filter tokens, if there were any.
    pub filter: Option<&'a str>,
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    ErrorCode::StreamInvalidConfig.with(text)
}

/// Checks that subject and body of a create request agree, before the stream is looked up, and
/// fills in the name (spec jetstream/04 §1.1).
///
/// # Errors
/// The first rule that is broken.
pub fn check_consumer_address(
    address: &ConsumerAddress<'_>,
    request: &mut ConsumerCreateRequest,
) -> Result<(), ApiError> {
    if address.stream != request.stream_name {
        return Err(ErrorCode::StreamMismatch.into());
    }
    let config = &mut request.config;
    if has_path_separator(&config.name) {
        return Err(ErrorCode::ConsumerNameContainsPathSeparators.into());
    }
    match address.name {
        None if !config.durable.is_empty() => {
            return Err(ErrorCode::ConsumerEphemeralWithDurableName.into());
        }
        None => {}
        Some(name) => {
            if address.durable && config.durable.is_empty() {
                return Err(ErrorCode::ConsumerDurableNameNotSet.into());
            }
            if !config.durable.is_empty() && config.durable != name {
                return Err(ErrorCode::ConsumerDurableNameNotMatchSubject.into());
            }
            name.clone_into(&mut config.name);
        }
    }
    if has_path_separator(&config.name) || has_path_separator(&config.durable) {
        return Err(ErrorCode::ConsumerNameContainsPathSeparators.into());
    }
    if let Some(filter) = address.filter {
        if !config.filter_subjects.is_empty() {
            return Err(ErrorCode::ConsumerMultipleFiltersNotAllowed.into());
        }
        if config.filter_subject != filter {
            return Err(ErrorCode::ConsumerCreateFilterSubjectMismatch.into());
        }
    }
    Ok(())
}

/// Checks a create request of the stream in `context`; names are checked already.
///
/// # Errors
/// The first rule that is broken, with the reference's code and text.
pub fn check_consumer(
    context: &ConsumerContext<'_>,
    request: ConsumerCreateRequest,
) -> Result<CheckedConsumer, ApiError> {
    let ConsumerCreateRequest {
        mut config,
        action,
        pedantic,
        ..
    } = request;
    check_replicas(context, &config)?;
    check_signs(&config)?;
    consumer_defaults::set(context, &mut config, pedantic)?;
    let level = consumer_api_level(&config);
    set_required_level(&mut config.metadata, level);
    check_name(&config)?;
    check_config(context, &config)?;
    let name = if config.name.is_empty() {
        config.durable.clone()
    } else {
        config.name.clone()
    };
    if !config.durable.is_empty() {
        config.name.clone_from(&config.durable);
    }
    let existing = context
        .consumers
        .iter()
        .find(|consumer| consumer.name == name);
    if let Some(existing) = existing {
        return check_existing(context, existing.config, name, config, action);
    }
    if action == ConsumerAction::Update {
        return Err(ErrorCode::ConsumerDoesNotExist.into());
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(ErrorCode::ConsumerCreate.with("error creating store for consumer"));
    }
    check_room(context)?;
    check_work_queue(context, &name, &config)?;
    set_ephemeral_threshold(&mut config, false);
    Ok(CheckedConsumer::Create { name, config })
}

fn check_replicas(context: &ConsumerContext<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    if context.standalone && config.num_replicas > 1 {
        return Err(ErrorCode::StreamReplicasNotSupported.into());
    }
    if config.num_replicas > context.stream.num_replicas {
        return Err(ErrorCode::ConsumerReplicasExceedsStream.into());
    }
    if config.num_replicas < 0 {
        return Err(ErrorCode::ReplicasCountCannotBeNegative.into());
    }
    let follows_stream = context.stream.retention != RetentionPolicy::Limits;
    if follows_stream
        && config.num_replicas != 0
        && config.num_replicas != context.stream.num_replicas
    {
        return Err(ErrorCode::ConsumerReplicasShouldMatchStream.into());
    }
    Ok(())
}

fn check_signs(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.backoff_ns.iter().any(|wait_ns| *wait_ns < 0) {
        return Err(ErrorCode::ConsumerBackOffNegative.into());
    }
    if config.ack_wait_ns < 0 {
        return Err(ErrorCode::ConsumerAckWaitNegative.into());
    }
    Ok(())
}

/// Said of names and of durable names alike.
const INVALID_NAME: &str = "consumer name can not contain '.', '*', '>', '\\', '/'";

fn check_name(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.durable.is_empty() {
        if config.durable.len() > MAX_NAME_LENGTH {
            return Err(ErrorCode::ConsumerNameTooLong.with(MAX_NAME_LENGTH));
        }
        if !is_valid_name(&config.durable) {
            return Err(invalid(INVALID_NAME));
        }
    }
    if !config.name.is_empty() && !is_valid_name(&config.name) {
        return Err(invalid(INVALID_NAME));
    }
    Ok(())
}

/// What holds for the configuration alone and against its stream.
fn check_config(context: &ConsumerContext<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.ack_policy == AckPolicy::FlowControl {
        check_flow_control_acks(config)?;
    }
    let tries = usize::try_from(config.max_deliver);
    if tries.is_ok_and(|tries| config.backoff_ns.len() > tries) {
        return Err(ErrorCode::ConsumerMaxDeliverBackoff.into());
    }
    if config.description.len() > MAX_DESCRIPTION_LENGTH {
        return Err(ErrorCode::ConsumerDescriptionTooLong.with(MAX_DESCRIPTION_LENGTH));
    }
    if config.is_push() {
        check_push(context, config)?;
    } else {
        check_pull(context, config)?;
    }
    check_caps(context, config)?;
    if config.direct {
        if !config.is_push() {
            return Err(ErrorCode::ConsumerDirectRequiresPush.into());
        }
        if config.is_durable() {
            return Err(ErrorCode::ConsumerDirectRequiresEphemeral.into());
        }
    }
    check_filters(config)?;
    check_start(config)?;
    check_sampling(&config.sample_frequency)?;
    if config.flow_control && config.idle_heartbeat_ns == 0 {
        return Err(ErrorCode::ConsumerWithFlowControlNeedsHeartbeats.into());
    }
    let metadata_length: usize = config
        .metadata
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if metadata_length > MAX_METADATA_LENGTH {
        return Err(ErrorCode::ConsumerMetadataLength.with("128KB"));
    }
    check_priority(config)
}

fn check_flow_control_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.is_push() {
        return Err(ErrorCode::ConsumerAckFCRequiresPush.into());
    }
    if !config.flow_control {
        return Err(ErrorCode::ConsumerAckFCRequiresFC.into());
    }
    if config.idle_heartbeat_ns != FLOW_CONTROL_HEARTBEAT_NS {
        return Err(invalid("flow control ack policy heartbeat needs to be 1s"));
    }
    if config.max_ack_pending <= 0 {
        return Err(ErrorCode::ConsumerAckFCRequiresMaxAckPending.into());
    }
    if config.ack_wait_ns != 0 || !config.backoff_ns.is_empty() {
        return Err(ErrorCode::ConsumerAckFCRequiresNoAckWait.into());
    }
    if config.max_deliver > 0 {
        return Err(ErrorCode::ConsumerAckFCRequiresNoMaxDeliver.into());
    }
    Ok(())
}

fn check_push(context: &ConsumerContext<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    let deliver = config.deliver_subject.as_bytes();
    if has_wildcard(deliver) {
        return Err(ErrorCode::ConsumerDeliverToWildcards.into());
    }
    if !is_valid_subject(deliver) {
        return Err(ErrorCode::ConsumerInvalidDeliverSubject.into());
    }
    if context
        .stream
        .subject_filters()
        .any(|subject| overlaps(subject, deliver))
    {
        return Err(ErrorCode::ConsumerDeliverCycle.into());
    }
    if config.max_waiting != 0 {
        return Err(ErrorCode::ConsumerPushMaxWaiting.into());
    }
    if config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None {
        return Err(ErrorCode::ConsumerMaxPendingAckPolicyRequired.into());
    }
    if config.idle_heartbeat_ns > 0 && config.idle_heartbeat_ns < MIN_HEARTBEAT_NS {
        return Err(ErrorCode::ConsumerSmallHeartbeat.into());
    }
    Ok(())
}

fn check_pull(context: &ConsumerContext<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    let work_queue = context.stream.retention == RetentionPolicy::WorkQueue;
    if work_queue && config.ack_policy == AckPolicy::None {
        return Err(ErrorCode::ConsumerPullRequiresAck.into());
    }
    if config.rate_limit_bits_per_second > 0 {
        return Err(ErrorCode::ConsumerPullWithRateLimit.into());
    }
    if config.idle_heartbeat_ns > 0 {
        return Err(ErrorCode::ConsumerHBRequiresPush.into());
    }
    if config.flow_control {
        return Err(ErrorCode::ConsumerFCRequiresPush.into());
    }
    let expires_ns = config.max_request_expires_ns;
    if expires_ns != 0 && expires_ns < MIN_REQUEST_EXPIRES_NS {
        return Err(ErrorCode::ConsumerMaxRequestExpiresTooSmall.into());
    }
    let cap = context.max_request_batch;
    if cap > 0 && config.max_request_batch > cap {
        return Err(ErrorCode::ConsumerMaxRequestBatchExceeded.with(cap));
    }
    Ok(())
}

fn check_caps(context: &ConsumerContext<'_>, config: &ConsumerConfig) -> Result<(), ApiError> {
    let caps = [
        context.max_ack_pending,
        context.limits.max_ack_pending,
        context.stream.consumer_limits.max_ack_pending,
    ];
    for cap in caps {
        if cap > 0 && config.max_ack_pending > cap {
            return Err(ErrorCode::ConsumerMaxPendingAckExcess.with(cap));
        }
    }
    let cap_ns = context.stream.consumer_limits.inactive_threshold_ns;
    if cap_ns > 0 && config.inactive_threshold_ns > cap_ns {
        let cap = millrace_clock::go_duration::format(cap_ns);
        return Err(ErrorCode::ConsumerInactiveThresholdExcess.with(cap));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.filter_subject.is_empty() && !config.filter_subjects.is_empty() {
        return Err(ErrorCode::ConsumerDuplicateFilterSubjects.into());
    }
    if !config.filter_subject.is_empty() && !is_valid_subject(config.filter_subject.as_bytes()) {
        return Err(invalid("invalid subject"));
    }
    for (position, filter) in config.filter_subjects.iter().enumerate() {
        if filter.is_empty() {
            return Err(ErrorCode::ConsumerEmptyFilter.into());
        }
        if !is_valid_subject(filter.as_bytes()) {
            return Err(invalid("invalid subject"));
        }
        let mut earlier = config.filter_subjects.iter().take(position);
        if earlier.any(|other| overlaps(other.as_bytes(), filter.as_bytes())) {
            return Err(ErrorCode::ConsumerOverlappingSubjectFilters.into());
        }
    }
    Ok(())
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let policy = match config.deliver_policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::New => "new",
        DeliverPolicy::LastPerSubject => "last per subject",
        DeliverPolicy::ByStartSequence => "by start sequence",
        DeliverPolicy::ByStartTime => "by start time",
    };
    let broken = |what: &str| {
        Err(ErrorCode::ConsumerInvalidPolicy.with(format!(
            "consumer delivery policy is deliver {policy}, but optional {what}"
        )))
    };
    let has_sequence = config.opt_start_seq > 0;
    let has_time = config.opt_start_time.is_some();
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence if !has_sequence => broken("start sequence is not set"),
        DeliverPolicy::ByStartSequence if has_time => broken("start time is also set"),
        DeliverPolicy::ByStartTime if !has_time => broken("start time is not set"),
        // The doubled word is the reference's.
        DeliverPolicy::ByStartTime if has_sequence => broken("start start sequence is also set"),
        DeliverPolicy::ByStartSequence | DeliverPolicy::ByStartTime => Ok(()),
        _ if has_sequence => broken("start sequence is also set"),
        _ if has_time => broken("start time is also set"),
        DeliverPolicy::LastPerSubject if config.filters().next().is_none() => {
            broken("filter subject is not set")
        }
        _ => Ok(()),
    }
}

fn check_sampling(frequency: &str) -> Result<(), ApiError> {
    if frequency.is_empty() {
        return Ok(());
    }
    let digits = frequency.strip_suffix('%').unwrap_or(frequency);
    match digits.parse::<i64>() {
        Ok(share) if share >= 0 => Ok(()),
        Ok(_) => Err(ErrorCode::ConsumerInvalidSampling.with("<nil>")),
        Err(_) => Err(ErrorCode::ConsumerInvalidSampling.with(format!(
            "strconv.Atoi: parsing \"{digits}\": invalid syntax"
        ))),
    }
}

fn check_priority(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy == PriorityPolicy::None {
        if !config.priority_groups.is_empty() {
            return Err(ErrorCode::ConsumerPriorityGroupWithPolicyNone.into());
        }
        if config.priority_timeout_ns != 0 {
            return Err(ErrorCode::ConsumerPinnedTTLWithoutPriorityPolicyNone.into());
        }
        return Ok(());
    }
    if config.is_push() {
        return Err(ErrorCode::ConsumerPushWithPriorityGroup.into());
    }
    if config.priority_groups.is_empty() {
        return Err(ErrorCode::ConsumerPriorityPolicyWithoutGroup.into());
    }
    for group in &config.priority_groups {
        if group.is_empty() {
            return Err(ErrorCode::ConsumerEmptyGroupName.into());
        }
        if !is_valid_group_name(group) {
            return Err(ErrorCode::ConsumerInvalidGroupName.into());
        }
    }
    Ok(())
}

/// Whether `group` may name a priority group.
#[must_use]
pub fn is_valid_group_name(group: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
    !group.is_empty() && group.len() <= MAX_GROUP_NAME_LENGTH && group.bytes().all(known)
}

/// Whether one more consumer fits.
fn check_room(context: &ConsumerContext<'_>) -> Result<(), ApiError> {
    let count = context
        .consumers
        .iter()
        .filter(|consumer| !consumer.config.direct)
        .count();
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let own = [context.stream.max_consumers, context.limits.max_consumers];
    let own = own.into_iter().filter(|limit| *limit > 0).min();
    let limit = own.unwrap_or(context.default_max_consumers);
    if limit > 0 && count >= limit {
        return Err(ErrorCode::MaximumConsumersLimit.into());
    }
    Ok(())
}

/// Messages of a work queue go to exactly one consumer.
fn check_work_queue(
    context: &ConsumerContext<'_>,
    name: &str,
    config: &ConsumerConfig,
) -> Result<(), ApiError> {
    if context.stream.retention != RetentionPolicy::WorkQueue || config.direct || config.sourcing {
        return Ok(());
    }
    if !matches!(
        config.ack_policy,
        AckPolicy::Explicit | AckPolicy::FlowControl
    ) {
        return Err(ErrorCode::ConsumerWQRequiresExplicitAck.into());
    }
    if config.deliver_policy != DeliverPolicy::All {
        return Err(ErrorCode::ConsumerWQConsumerNotDeliverAll.into());
    }
    let mut others = context
        .consumers
        .iter()
        .filter(|other| other.name != name && !other.config.direct && !other.config.sourcing)
        .peekable();
    if others.peek().is_some() && config.filters().next().is_none() {
        return Err(ErrorCode::ConsumerWQMultipleUnfiltered.into());
    }
    for other in others {
        let clash = other.config.filters().next().is_none()
            || other.config.filters().any(|theirs| {
                config
                    .filters()
                    .any(|ours| overlaps(ours.as_bytes(), theirs.as_bytes()))
            });
        if clash {
            return Err(ErrorCode::ConsumerWQConsumerNotUnique.into());
        }
    }
    Ok(())
}

/// The request names a consumer that exists: same, update, or error.
fn check_existing(
    context: &ConsumerContext<'_>,
    current: &ConsumerConfig,
    name: String,
    mut config: ConsumerConfig,
    action: ConsumerAction,
) -> Result<CheckedConsumer, ApiError> {
    if action == ConsumerAction::Create {
        return if same(current, &config) {
            Ok(CheckedConsumer::Exists { name })
        } else {
            Err(ErrorCode::ConsumerAlreadyExists.into())
        };
    }
    set_ephemeral_threshold(&mut config, !current.is_durable());
    // Pausing has a call of its own.
    config.pause_until = current.pause_until;
    let level = consumer_api_level(&config);
    set_required_level(&mut config.metadata, level);
    if same(current, &config) {
        return Ok(CheckedConsumer::Exists { name });
    }
    check_change(current, &config)?;
    if current.is_push()
        && current.deliver_subject != config.deliver_subject
        && (context.has_interest)(current.deliver_subject.as_bytes())
    {
        return Err(ErrorCode::ConsumerNameExist.into());
    }
    check_work_queue(context, &name, &config)?;
    Ok(CheckedConsumer::Update { name, config })
}

fn same(current: &ConsumerConfig, config: &ConsumerConfig) -> bool {
    let without_pause = |config: &ConsumerConfig| ConsumerConfig {
        pause_until: config.pause_until.filter(|until| *until != Timestamp::ZERO),
        ..config.clone()
    };
    without_pause(current) == without_pause(config)
}

fn check_change(current: &ConsumerConfig, config: &ConsumerConfig) -> Result<(), ApiError> {
    macro_rules! fixed {
        ($($field:ident: $name:literal),* $(,)?) => {
            [$((current.$field != config.$field, concat!($name, " can not be updated"))),*]
        };
    }
    let before_mode = fixed![
        deliver_policy: "deliver policy",
        memory_storage: "storage type",
        opt_start_seq: "start sequence",
        opt_start_time: "start time",
        ack_policy: "ack policy",
        replay_policy: "replay policy",
        idle_heartbeat_ns: "heart beats",
        flow_control: "flow control",
    ];
    let mode = match (current.is_push(), config.is_push()) {
        (false, true) => Some((true, "can not update pull consumer to push based")),
        (true, false) => Some((true, "can not update push consumer to pull based")),
        _ => None,
    };
    let behind_mode = fixed![max_waiting: "max waiting", direct: "direct", sourcing: "sourcing"];
    // The reference names the first difference in this order.
    let mut in_order = before_mode.iter().chain(&mode).chain(&behind_mode);
    match in_order.find(|(differs, _)| *differs) {
        Some((_, text)) => Err(ErrorCode::ConsumerCreate.with(text)),
        None => Ok(()),
    }
}
