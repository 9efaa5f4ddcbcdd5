//! Advisories about snapshots and restores (spec jetstream/06).

use serde::Serialize;

use crate::api::advisory::{ClientBody, EventContext, emit};
use crate::engine::JetStream;
use crate::ids::AccountRef;
use crate::model::json::is_zero;
use crate::model::{StreamState, Timestamp};
use crate::outbound::ClientFacts;

use super::Way;

/// Which of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    SnapshotCreate(&'a StreamState),
    /// Why it failed; empty: it did not.
    SnapshotComplete(&'a str),
    RestoreCreate,
    /// Bytes that came.
    RestoreComplete(u64),
}

#[derive(Serialize)]
struct Body<'a> {
    stream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a StreamState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    client: ClientBody<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    error: &'a str,
}

/// Tells of a snapshot or restore that began at `start_ns`.
pub(super) fn tell(
    engine: &mut JetStream,
    way: &mut Way<'_>,
    (account, stream): (AccountRef, &str),
    client: &ClientFacts,
    start_ns: i64,
    event: Event<'_>,
) {
    let mut body = Body {
        stream,
        state: None,
        start: None,
        end: None,
        bytes: None,
        client: ClientBody::new(client),
        error: "",
    };
    let (verb, kind) = match event {
        Event::SnapshotCreate(state) => {
            body.state = Some(state);
            ("SNAPSHOT_CREATE", "snapshot_create")
        }
        Event::SnapshotComplete(error) => {
            body.error = error;
            ("SNAPSHOT_COMPLETE", "snapshot_complete")
        }
        Event::RestoreCreate => ("RESTORE_CREATE", "restore_create"),
        Event::RestoreComplete(bytes) => {
            body.bytes = Some(bytes);
            ("RESTORE_COMPLETE", "restore_complete")
        }
    };
    if verb.ends_with("COMPLETE") {
        body.start = Some(Timestamp(start_ns));
        body.end = Some(Timestamp(way.now.wall_ns));
    }
    let domain = engine.shared.domain.clone();
    let mut context = EventContext {
        now: way.now,
        account,
        domain: &domain,
        random: &mut engine.shared.random,
        out: &mut *way.out,
    };
    let subject = format!("ADVISORY.STREAM.{verb}.{stream}");
    emit(
        &mut context,
        &subject,
        &format!("advisory.v1.{kind}"),
        &body,
    );
}
