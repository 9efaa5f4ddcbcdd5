//! Priority groups: which waiting requests may be served (spec jetstream/04 §7).

use millrace_clock::Now;

use super::leader::Leadership;
use super::request::{PRIORITY_MAX, RequestBody};
use super::settings::Settings;
use super::waiting::Request;
use super::{ConsumerContext, ConsumerEvent};
use crate::model::PriorityPolicy;

/// Length of a pin id.
const PIN_ID_LENGTH: usize = 22;

/// The client that a group's messages go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) id: String,
    /// Wall time.
    pub(super) since_ns: i64,
    /// Monotonic time at which the pin is lost.
    pub(super) expires_ns: u64,
}

/// What the overflow policy looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) num_pending: u64,
    pub(super) ack_pending: u64,
}

/// Checks the priority fields of a request; gives the index of its group or a status line.
pub(super) fn check(settings: &Settings, body: &RequestBody) -> Result<usize, &'static str> {
    if !body.is_formal {
        return Ok(0);
    }
    let policy = settings.priority_policy;
    if (body.min_pending != 0 || body.min_ack_pending != 0) && policy != PriorityPolicy::Overflow {
        return Err("400 Bad Request - Not a Overflow Priority consumer");
    }
    if !body.id.is_empty() && policy != PriorityPolicy::PinnedClient {
        return Err("400 Bad Request - Not a Pinned Client Priority consumer");
    }
    if !(0..=PRIORITY_MAX).contains(&body.priority) {
        return Err("400 Bad Request - Priority must be between 0 and 9");
    }
    if policy == PriorityPolicy::None {
        return Ok(0);
    }
    if body.group.is_empty() {
        return Err("400 Bad Request - Priority Group missing");
    }
    settings
        .priority_groups
        .iter()
        .position(|group| *group == body.group)
        .ok_or("400 Bad Request - Invalid Priority Group")
}

/// Whether a request may be looked at for the next message.
pub(super) fn is_eligible(
    settings: &Settings,
    pins: &[Option<Pin>],
    counts: Counts,
    request: &Request,
) -> bool {
    match settings.priority_policy {
        PriorityPolicy::None | PriorityPolicy::Prioritized => true,
        PriorityPolicy::Overflow => {
            let (pending, unacked) = (request.min_pending, request.min_ack_pending);
            (pending == 0 && unacked == 0)
                || (pending > 0 && counts.num_pending >= pending)
                || (unacked > 0 && counts.ack_pending >= unacked)
        }
        // Requests without id stand by while somebody is pinned; wrong ids are sent away.
        PriorityPolicy::PinnedClient => {
            !request.id.is_empty() || pins.get(request.group).is_none_or(Option::is_none)
        }
    }
}

impl Leadership {
    /// Whether a request carries an id that is not the pinned one.
    pub(super) fn has_wrong_pin(&self, request: &Request) -> bool {
        let pin = self.pins.get(request.group).and_then(Option::as_ref);
        !request.id.is_empty() && pin.is_none_or(|pin| pin.id != request.id)
    }

    /// Pins the client of a request that is about to be served, if nobody is.
    pub(super) fn pin(
        &mut self,
        context: &mut ConsumerContext<'_>,
        settings: &Settings,
        request: &mut Request,
    ) {
        let Some(place) = self.pins.get_mut(request.group) else {
            return;
        };
        if place.is_some() {
            return;
        }
        let id = context.random.base62(PIN_ID_LENGTH);
        *place = Some(Pin {
            id: id.clone(),
            since_ns: context.now.wall_ns,
            expires_ns: context.now.after_ns(settings.priority_timeout_ns),
        });
        request.id.clone_from(&id);
        let group = settings
            .priority_groups
            .get(request.group)
            .cloned()
            .unwrap_or_default();
        context.events.push(ConsumerEvent::Pinned { group, id });
    }

    /// Notes that the pinned client asked again.
    pub(super) fn renew_pin(&mut self, now: Now, settings: &Settings, group: usize) {
        if let Some(Some(pin)) = self.pins.get_mut(group) {
            pin.expires_ns = now.after_ns(settings.priority_timeout_ns);
        }
    }

    /// Takes a group's pin away. False if there was none.
    pub(super) fn unpin(
        &mut self,
        events: &mut Vec<ConsumerEvent>,
        settings: &Settings,
        group: usize,
        reason: &'static str,
    ) -> bool {
        let Some(_) = self.pins.get_mut(group).and_then(Option::take) else {
            return false;
        };
        let group = settings
            .priority_groups
            .get(group)
            .cloned()
            .unwrap_or_default();
        events.push(ConsumerEvent::Unpinned { group, reason });
        true
    }

    /// Takes away the pins whose clients were silent for too long.
    pub(super) fn expire_pins(&mut self, context: &mut ConsumerContext<'_>, settings: &Settings) {
        for group in 0..self.pins.len() {
            let pin = self.pins.get(group).and_then(Option::as_ref);
            if pin.is_some_and(|pin| pin.expires_ns <= context.now.monotonic_ns) {
                self.unpin(context.events, settings, group, "timeout");
            }
        }
    }

    /// When the next pin is lost.
    pub(super) fn pin_deadline_ns(&self) -> Option<u64> {
        self.pins.iter().flatten().map(|pin| pin.expires_ns).min()
    }
}
