//! The answers of changes, once they are applied, and the events that tell of them.

use super::advisory::{self, Action};
use super::consumers::full_info;
use super::dispatch::{answer, with_events};
use super::engine::{ApiEngine, ApiTurn};
use super::request::ApiRequest;
use super::response::Body;
use super::streams::{created_stream_info, full_stream_info, no_such_message};
use crate::error::{ApiError, ErrorCode};
use crate::ids::{AccountRef, StreamId};
use crate::model::Timestamp;
use crate::request::{Outcome, PendingRequest};

/// Answers a request whose change is applied, and publishes its event.
pub(super) fn finish(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    pending: &PendingRequest,
    outcome: &Outcome,
) {
    let subject = pending.message.subject.clone();
    let Some(call) = ApiRequest::parse(&subject) else {
        return;
    };
    if *outcome == Outcome::Abandoned {
        return;
    }
    let result = body_of(engine, turn, call, outcome);
    announce(engine, turn, pending.account, outcome);
    answer(engine, turn, pending, call, result.as_ref());
}

fn body_of(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    call: ApiRequest<'_>,
    outcome: &Outcome,
) -> Result<Body, ApiError> {
    let gone = || ApiError::from(ErrorCode::StreamNotFound);
    match outcome {
        Outcome::StreamCreated { stream, .. } => {
            let info = created_stream_info(engine, turn, *stream).ok_or_else(gone)?;
            Ok(Body::StreamCreated {
                info,
                did_create: true,
            })
        }
        Outcome::StreamUpdated { stream } => {
            let info = full_stream_info(engine, turn, *stream).ok_or_else(gone)?;
            Ok(Body::StreamUpdated(info))
        }
        Outcome::StreamDeleted { .. } | Outcome::ConsumerDeleted { .. } => {
            Ok(Body::Success { success: true })
        }
        Outcome::StreamPurged { purged, .. } => Ok(Body::Purged {
            success: true,
            purged: *purged,
        }),
        Outcome::MessageDeleted { existed: true, .. } => Ok(Body::Success { success: true }),
        Outcome::MessageDeleted {
            stream, sequence, ..
        } => {
            let view = engine.stream(*stream).ok_or_else(gone)?;
            Err(no_such_message(&view, *sequence))
        }
        Outcome::ConsumerCreated { stream, consumer }
        | Outcome::ConsumerUpdated { stream, consumer } => {
            Ok(Body::Consumer(full_info(engine, turn, *stream, consumer)?))
        }
        Outcome::ConsumerPaused { stream, consumer } => {
            let info = full_info(engine, turn, *stream, consumer)?;
            Ok(Body::Paused {
                paused: info.paused,
                pause_until: info.config.pause_until.unwrap_or(Timestamp::ZERO),
                pause_remaining_ns: info.pause_remaining_ns,
            })
        }
        Outcome::ConsumerReset { stream, consumer } => {
            let info = full_info(engine, turn, *stream, consumer)?;
            let reset_seq = info.delivered.stream.saturating_add(1);
            Ok(Body::ConsumerReset {
                info: Some(info),
                reset_seq,
            })
        }
        Outcome::Abandoned => Err(failed(call)),
    }
}

/// The lead was lost. Not sent; a caller that wants to answer would say this.
fn failed(_call: ApiRequest<'_>) -> ApiError {
    ErrorCode::ClusterNotAvail.into()
}

fn announce(
    engine: &mut dyn ApiEngine,
    turn: &mut ApiTurn<'_>,
    account: AccountRef,
    outcome: &Outcome,
) {
    let stream_name = |engine: &dyn ApiEngine, stream: StreamId| {
        engine
            .stream(stream)
            .map_or_else(String::new, |stream| stream.config.name.clone())
    };
    match outcome {
        Outcome::StreamCreated {
            stream,
            created: true,
        } => {
            let name = stream_name(engine, *stream);
            with_events(engine, turn, account, |events| {
                advisory::stream_action(events, &name, Action::Create);
            });
        }
        Outcome::StreamUpdated { stream } => {
            let name = stream_name(engine, *stream);
            with_events(engine, turn, account, |events| {
                advisory::stream_action(events, &name, Action::Modify);
            });
        }
        Outcome::StreamDeleted { name } => {
            with_events(engine, turn, account, |events| {
                advisory::stream_action(events, name, Action::Delete);
            });
        }
        Outcome::ConsumerCreated { stream, consumer } => {
            let name = stream_name(engine, *stream);
            with_events(engine, turn, account, |events| {
                advisory::consumer_action(events, &name, consumer, Action::Create);
            });
        }
        Outcome::ConsumerDeleted { stream, consumer } => {
            let name = stream_name(engine, *stream);
            with_events(engine, turn, account, |events| {
                advisory::consumer_action(events, &name, consumer, Action::Delete);
            });
        }
        Outcome::ConsumerPaused { stream, consumer } => {
            let name = stream_name(engine, *stream);
            let info = engine.consumer_info(turn, *stream, consumer);
            let (paused, until) = info.map_or((false, Timestamp::ZERO), |info| {
                (
                    info.paused,
                    info.config.pause_until.unwrap_or(Timestamp::ZERO),
                )
            });
            with_events(engine, turn, account, |events| {
                advisory::consumer_pause(events, &name, consumer, paused, until);
            });
        }
        _ => {}
    }
}
