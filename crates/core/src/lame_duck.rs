//! Lame duck mode: clients are told, left in peace for a while, then closed one by one so that
//! they do not all fall upon the other servers at once (spec core/03 §3.5).

use millrace_clock::Now;

use crate::broker::Broker;
use crate::effects::{BrokerEffect, CloseReason, LogLevel};
use crate::ids::ConnectionId;
use crate::limits::LAME_DUCK_STEP_MAX_NS;

/// Where lame duck mode stands.
#[derive(Debug)]
pub(crate) struct LameDuck {
    /// When the next step is due; `None` once all is done.
    pub(crate) deadline_ns: Option<u64>,
    /// Whether closing has begun.
    is_closing: bool,
    /// Time between two closes.
    interval_ns: u64,
    /// How many are closed in one step.
    batch: usize,
    waiting: Vec<ConnectionId>,
}

/// No step is shorter than this; with very many clients several are closed per step.
const STEP_MIN_NS: u64 = Now::MILLISECOND_NS;

impl Broker {
    /// Enters lame duck mode: tells clients, then closes them one by one; `LameDuckDone` follows.
    /// New connections are refused from now on. A second call changes nothing.
    pub fn lame_duck(&mut self, now: Now) {
        if self.lame_duck.is_some() || self.is_stopping {
            return;
        }
        let grace_ns = self.options.lame_duck.grace_period_ns;
        self.lame_duck = Some(LameDuck {
            deadline_ns: Some(now.after_ns(grace_ns)),
            is_closing: false,
            interval_ns: 0,
            batch: 1,
            waiting: Vec::new(),
        });
        if self.open_sessions == 0 {
            self.finish_lame_duck();
            return;
        }
        let slots: Vec<u32> = self.sessions.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.send_lame_duck_info(slot);
        }
    }

    /// Tells one client what lame duck mode tells all. False if there is none of this id.
    pub fn tell_lame_duck(&mut self, id: ConnectionId) -> bool {
        let Some(slot) = self.slot_of(id) else {
            return false;
        };
        self.send_lame_duck_info(slot);
        true
    }

    /// Whether the next [`Self::tick`] begins to close connections, because the grace period is over:
    /// the last moment to tell clients something.
    #[must_use]
    pub fn is_about_to_close(&self, now: Now) -> bool {
        self.lame_duck.as_ref().is_some_and(|state| {
            !state.is_closing && state.deadline_ns.is_some_and(|due| due <= now.monotonic_ns)
        })
    }

    pub(crate) fn advance_lame_duck(&mut self, now: Now) {
        let due = self.lame_duck.as_ref().and_then(|state| state.deadline_ns);
        if due.is_none_or(|deadline_ns| deadline_ns > now.monotonic_ns) {
            return;
        }
        let is_closing = self
            .lame_duck
            .as_ref()
            .is_some_and(|state| state.is_closing);
        if !is_closing {
            self.begin_closing();
        }
        self.close_some(now);
    }

    fn begin_closing(&mut self) {
        let text = "Closing existing clients".to_owned();
        self.effects.push(BrokerEffect::Log {
            level: LogLevel::Info,
            text,
        });
        let options = &self.options.lame_duck;
        let total_ns = options.duration_ns.saturating_sub(options.grace_period_ns);
        let mut waiting: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| !session.is_closed())
            .map(|(_, session)| session.id)
            .collect();
        // Oldest last, so that they are popped first.
        waiting.sort_unstable_by(|first, second| second.cmp(first));
        let count = waiting.len().max(1) as u64;
        let interval_ns = (total_ns / count).clamp(STEP_MIN_NS, LAME_DUCK_STEP_MAX_NS);
        let batch = count.div_ceil((total_ns / interval_ns).max(1)) as usize;
        if let Some(state) = &mut self.lame_duck {
            state.is_closing = true;
            state.interval_ns = interval_ns;
            state.batch = batch;
            state.waiting = waiting;
        }
    }

    fn close_some(&mut self, now: Now) {
        let Some(state) = &mut self.lame_duck else {
            return;
        };
        let keep = state.waiting.len().saturating_sub(state.batch);
        let chosen = state.waiting.split_off(keep);
        // Jittered between half and full.
        let half_ns = state.interval_ns / 2;
        let pause_ns = half_ns + self.random.below(half_ns + 1);
        state.deadline_ns = Some(now.after_ns(pause_ns));
        let is_done = state.waiting.is_empty();
        for id in chosen.into_iter().rev() {
            if let Some(slot) = self.slot_of(id) {
                self.close_session(now, slot, CloseReason::ServerShutdown, true);
            }
        }
        if is_done {
            self.finish_lame_duck();
        }
    }

    fn finish_lame_duck(&mut self) {
        if let Some(state) = &mut self.lame_duck {
            state.deadline_ns = None;
        }
        self.effects.push(BrokerEffect::LameDuckDone);
    }
}
