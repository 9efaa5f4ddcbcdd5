//! Rules for mirrors and sources (spec jetstream/01 §2.5 and §2.6), part of `stream_rules`.

use std::collections::BTreeSet;

use millrace_subject::{Transform, is_literal, is_valid_subject, overlaps};

use super::context::StreamContext;
use super::names::is_valid_name;
use super::stream_config::{StreamConfig, StreamSource, SubjectTransformConfig};
use super::stream_rules::invalid;
use crate::error::{ApiError, ErrorCode};

/// The prefix of the local API, which an external prefix must not be.
const API_PREFIX: &str = "$JS.API";

pub(super) fn check(
    context: &StreamContext<'_>,
    config: &mut StreamConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    if let Some(mirror) = &config.mirror {
        check_mirror(config, mirror)?;
        if mirror.external.is_none() {
            if !is_valid_name(&mirror.name) {
                return Err(ErrorCode::MirrorInvalidStreamName.into());
            }
            if let Some(origin) = context.streams.find(&mirror.name) {
                if config.max_msg_size > 0 && config.max_msg_size < origin.max_msg_size {
                    return Err(ErrorCode::MirrorMaxMessageSizeTooBig.into());
                }
                if pedantic && config.mirror_direct != origin.allow_direct {
                    return Err(ErrorCode::Pedantic
                        .with("origin stream has direct get set, mirror has it disabled"));
                }
                config.mirror_direct = origin.allow_direct;
            }
        }
    }
    if !config.sources.is_empty() {
        check_sources(context, config)?;
    }
    check_external(config)?;
    if forms_cycle(context, config) {
        return Err(invalid("detected cycle"));
    }
    Ok(())
}

fn check_mirror(config: &StreamConfig, mirror: &StreamSource) -> Result<(), ApiError> {
    let refused = [
        (config.first_seq > 0, ErrorCode::MirrorWithFirstSeq),
        (!config.subjects.is_empty(), ErrorCode::MirrorWithSubjects),
        (!config.sources.is_empty(), ErrorCode::MirrorWithSources),
        (config.allow_msg_counter, ErrorCode::MirrorWithCounters),
        (config.allow_atomic, ErrorCode::MirrorWithAtomicPublish),
        (config.allow_batched, ErrorCode::MirrorWithBatchPublish),
        (
            config.allow_msg_schedules,
            ErrorCode::MirrorWithMsgSchedules,
        ),
        (
            !is_valid_consumer(mirror),
            ErrorCode::MirrorDurableConsumerCfgInvalid,
        ),
        (
            has_both_filters(mirror),
            ErrorCode::MirrorMultipleFiltersNotAllowed,
        ),
    ];
    if let Some((_, error)) = refused.iter().find(|(broken, _)| *broken) {
        return Err((*error).into());
    }
    if config.subject_delete_marker_ttl_ns > 0 {
        return Err(invalid("subject delete markers forbidden on mirrors"));
    }
    check_transforms(
        &mirror.subject_transforms,
        ErrorCode::MirrorInvalidSubjectFilter,
        ErrorCode::MirrorInvalidTransformDestination,
        ErrorCode::MirrorOverlappingSubjectFilters,
    )
}

fn has_both_filters(source: &StreamSource) -> bool {
    !source.filter_subject.is_empty() && !source.subject_transforms.is_empty()
}

/// A consumer made by the user needs a name and a literal subject, and decides on its own what
/// is read.
fn is_valid_consumer(source: &StreamSource) -> bool {
    let Some(consumer) = &source.consumer else {
        return true;
    };
    let deliver = consumer.deliver_subject.as_bytes();
    is_valid_name(&consumer.name)
        && is_valid_subject(deliver)
        && is_literal(deliver)
        && source.opt_start_seq == 0
        && source.opt_start_time.is_none()
        && source.filter_subject.is_empty()
}

fn check_transforms(
    transforms: &[SubjectTransformConfig],
    bad_source: ErrorCode,
    bad_destination: ErrorCode,
    overlapping: ErrorCode,
) -> Result<(), ApiError> {
    for (position, transform) in transforms.iter().enumerate() {
        let source = transform.src.as_bytes();
        if !source.is_empty() && !is_valid_subject(source) {
            return Err(bad_source.with(format!("invalid subject {}", transform.src)));
        }
        if !transform.dest.is_empty()
            && let Err(error) = Transform::new(source, transform.dest.as_bytes())
        {
            return Err(bad_destination.with(error));
        }
        if transforms
            .iter()
            .take(position)
            .any(|other| overlaps(other.src.as_bytes(), source))
        {
            return Err(overlapping.into());
        }
    }
    Ok(())
}

fn check_sources(context: &StreamContext<'_>, config: &StreamConfig) -> Result<(), ApiError> {
    if config.allow_msg_schedules {
        return Err(ErrorCode::SourceWithMsgSchedules.into());
    }
    let mut seen = BTreeSet::new();
    let mut consumers = BTreeSet::new();
    for source in &config.sources {
        if !is_valid_name(&source.name) {
            return Err(ErrorCode::SourceInvalidStreamName.into());
        }
        if !seen.insert(index_name(source)) {
            return Err(ErrorCode::SourceDuplicateDetected.into());
        }
        if has_both_filters(source) {
            return Err(ErrorCode::SourceMultipleFiltersNotAllowed.into());
        }
        check_transforms(
            &source.subject_transforms,
            ErrorCode::SourceInvalidSubjectFilter,
            ErrorCode::SourceInvalidTransformDestination,
            ErrorCode::SourceOverlappingSubjectFilters,
        )?;
        if !is_valid_consumer(source) {
            return Err(ErrorCode::SourceDurableConsumerCfgInvalid.into());
        }
        if let Some(consumer) = &source.consumer
            && !consumers.insert((&source.name, &consumer.name))
        {
            return Err(ErrorCode::SourceDurableConsumerDuplicateDetected.into());
        }
        if source.external.is_none()
            && let Some(origin) = context.streams.find(&source.name)
            && config.max_msg_size > 0
            && config.max_msg_size < origin.max_msg_size
        {
            return Err(ErrorCode::SourceMaxMessageSizeTooBig.into());
        }
    }
    Ok(())
}

/// What makes two sources the same one.
fn index_name(source: &StreamSource) -> String {
    let api = source
        .external
        .as_ref()
        .map_or("", |external| external.api.as_str());
    let consumer = source
        .consumer
        .as_ref()
        .map_or("", |consumer| consumer.name.as_str());
    let mut name = format!(
        "{}\n{api}\n{consumer}\n{}",
        source.name, source.filter_subject
    );
    for transform in &source.subject_transforms {
        name.push_str(&format!("\n{}\n{}", transform.src, transform.dest));
    }
    name
}

/// Prefixes of other accounts or domains.
fn check_external(config: &StreamConfig) -> Result<(), ApiError> {
    for source in config.mirror.iter().chain(&config.sources) {
        let Some(external) = &source.external else {
            continue;
        };
        let deliver = external.deliver.as_bytes();
        let is_subject = is_valid_subject(deliver) && is_literal(deliver);
        if !deliver.is_empty() && !is_subject {
            return Err(ErrorCode::StreamInvalidExternalDeliverySubj.with(&external.deliver));
        }
        let api = external.api.as_bytes();
        if !api.is_empty() {
            if !is_valid_subject(api) || !is_literal(api) {
                return Err(invalid(format!(
                    "stream external api prefix \"{}\" must be a valid subject without wildcards",
                    external.api
                )));
            }
            if overlaps(api, API_PREFIX.as_bytes()) {
                return Err(ErrorCode::StreamExternalApiOverlap.with_two(&external.api, API_PREFIX));
            }
        }
    }
    Ok(())
}

/// Whether messages could come back to the stream through local mirrors and sources. A filter counts
/// only on the last step, and there the reference holds it against the subjects of the stream that
/// reads.
fn forms_cycle(context: &StreamContext<'_>, config: &StreamConfig) -> bool {
    let mut visited = BTreeSet::new();
    let mut open = vec![config];
    while let Some(stream) = open.pop() {
        for source in stream.mirror.iter().chain(&stream.sources) {
            if source.external.is_some() {
                continue;
            }
            let filter = source.filter_subject.as_bytes();
            if source.name == config.name {
                if filter.is_empty() || stream.subject_filters().any(|one| overlaps(one, filter)) {
                    return true;
                }
            } else if let Some(origin) = context.streams.find(&source.name)
                && visited.insert(source.name.as_str())
            {
                open.push(origin);
            }
        }
    }
    false
}

/// Filters that are no subjects: the reference finds out when it sets the stream up.
///
/// # Errors
/// The first of them.
pub(super) fn check_filters(config: &StreamConfig) -> Result<(), ApiError> {
    let bad = |source: &&StreamSource| {
        let filter = source.filter_subject.as_bytes();
        !filter.is_empty() && !is_valid_subject(filter)
    };
    if let Some(mirror) = config.mirror.iter().find(bad) {
        let filter = &mirror.filter_subject;
        let text = format!("subject filter '{filter}' for the mirror invalid subject");
        return Err(ErrorCode::StreamCreate.with(text));
    }
    if let Some(source) = config.sources.iter().find(bad) {
        let filter = &source.filter_subject;
        let text = format!("subject filter '{filter}' for the source: invalid subject");
        return Err(ErrorCode::StreamCreate.with(text));
    }
    Ok(())
}
