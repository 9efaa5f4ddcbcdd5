//! The headers of message schedules, in the reference's order (spec jetstream/02 §6).

use super::checks::{Check, Verdict, parse_ttl};
use super::headers::with_header;
use super::refusal::Refusal;
use crate::entry::{Note, Rollup};
use crate::schedule::{Pattern, PatternError};

use Verdict::{Pass, Refuse};

/// `Nats-Schedule…` and `Nats-Scheduler`.
pub(super) fn schedules(check: &mut Check<'_>) -> Verdict {
    let headers = check.headers;
    let text = headers.schedule.filter(|text| !text.is_empty());
    if text.is_none()
        && headers.schedule_time_zone.is_none()
        && headers.schedule_next.is_none()
        && headers.scheduler.is_none()
    {
        return Pass;
    }
    match plan(check, text) {
        Ok(()) => {}
        Err(refusal) => return Refuse(refusal),
    }
    match cancel(check) {
        Ok(verdict) => verdict,
        Err(refusal) => Refuse(refusal),
    }
}

/// What a schedule itself must be.
fn plan(check: &mut Check<'_>, text: Option<&[u8]>) -> Result<(), Refusal> {
    let enabled = check.config.allow_msg_schedules;
    let due_ns = first_due(check, text).map_err(|error| match error {
        _ if !enabled => Refusal::SchedulesDisabled,
        PatternError::TimeZone => Refusal::ScheduleTimeZone,
        PatternError::Pattern => Refusal::SchedulePattern,
    })?;
    let Some(next_ns) = due_ns else {
        return Ok(());
    };
    if !enabled {
        return Err(Refusal::SchedulesDisabled);
    }
    let headers = check.headers;
    let filled = |value: Option<&'_ [u8]>| value.is_some_and(|text| !text.is_empty());
    if filled(headers.schedule_ttl) && headers.schedule_ttl.and_then(parse_ttl).is_none() {
        return Err(Refusal::ScheduleTtl);
    }
    if filled(headers.schedule_rollup) && headers.schedule_rollup != Some(b"sub") {
        return Err(Refusal::ScheduleRollup);
    }
    if filled(headers.schedule_ttl) && !check.config.allow_msg_ttl {
        return Err(Refusal::TtlDisabled);
    }
    check_subjects(check)?;
    if filled(headers.rollup)
        && !headers
            .rollup
            .is_some_and(|word| word.eq_ignore_ascii_case(b"sub"))
    {
        return Err(Refusal::ScheduleRollup);
    }
    if !filled(headers.rollup) {
        check.new_headers = Some(with_header(check.block(), b"Nats-Rollup", b"sub"));
    }
    // One schedule for each subject: the one before goes.
    check.decision.rollup = Rollup::Subject;
    check.note = Note::Scheduled { next_ns }.encode();
    Ok(())
}

/// When the schedule is due first; `None`: the message is none.
fn first_due(check: &Check<'_>, text: Option<&[u8]>) -> Result<Option<i64>, PatternError> {
    let zone = check.headers.schedule_time_zone;
    let zone = zone.map(|zone| std::str::from_utf8(zone).unwrap_or_default());
    let local = check.schedules.local();
    let Some(text) = text else {
        // A zone is looked at even where there is nothing to be scheduled.
        Pattern::parse("@daily", zone, local)?;
        return Ok(None);
    };
    let text = std::str::from_utf8(text).map_err(|_| PatternError::Pattern)?;
    let pattern = Pattern::parse(text, zone, local)?;
    let due_ns = pattern.first(check.decision.time_ns, check.now_ns);
    due_ns.map(Some).ok_or(PatternError::Pattern)
}

/// Where it publishes to and what it takes from.
fn check_subjects(check: &Check<'_>) -> Result<(), Refusal> {
    let subject = check.message.subject;
    let target = check.headers.schedule_target.unwrap_or_default();
    let source = check.headers.schedule_source.filter(|it| !it.is_empty());
    if !millrace_subject::is_valid_literal(target) || target == subject {
        return Err(Refusal::ScheduleTarget);
    }
    let bad_source = source.is_some_and(|source| {
        !millrace_subject::is_valid_literal(source) || source == subject || source == target
    });
    if bad_source {
        return Err(Refusal::ScheduleSource);
    }
    let is_ours = |subject: &[u8]| {
        let mut filters = check.config.subject_filters();
        filters.any(|filter| millrace_subject::matches(filter, subject))
    };
    if !is_ours(target) {
        return Err(Refusal::ScheduleTarget);
    }
    if source.is_some_and(|source| !is_ours(source)) {
        return Err(Refusal::ScheduleSource);
    }
    Ok(())
}

/// A client that ends somebody's schedule.
fn cancel(check: &mut Check<'_>) -> Result<Verdict, Refusal> {
    let headers = check.headers;
    let next = headers.schedule_next.filter(|text| !text.is_empty());
    let scheduler = headers.scheduler.filter(|text| !text.is_empty());
    let scheduler = match (next, scheduler) {
        (None, None) => return Ok(Pass),
        (Some(b"purge"), Some(scheduler)) => scheduler,
        _ => return Err(Refusal::Scheduler),
    };
    if !millrace_subject::is_valid_literal(scheduler) || scheduler == check.message.subject {
        return Err(Refusal::Scheduler);
    }
    if !check.config.allow_msg_schedules {
        return Err(Refusal::SchedulesDisabled);
    }
    let layers = [check.diff, Some(check.flight)];
    let under_way = layers
        .into_iter()
        .flatten()
        .find_map(|flight| flight.subjects.get(scheduler));
    let holds = match under_way {
        Some(subject) => subject.schedule,
        None => check.schedules.on(scheduler).is_some() || check.store.last_of(scheduler).is_none(),
    };
    if !holds {
        return Err(Refusal::Scheduler);
    }
    if check.note.is_empty() {
        check.note = Note::Cancels { subject: scheduler }.encode();
    }
    Ok(Pass)
}
