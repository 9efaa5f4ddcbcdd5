//! Everything a consumer does because time passed.

use super::settings::Mode;
use super::{Consumer, ConsumerContext, ConsumerEvent};

/// Most due messages taken per tick; the rest follow with the next.
const DUE_PER_TICK_MAX: usize = 4096;
/// How often an inactive consumer asks to be deleted until it is.
const INACTIVE_REPEAT_NS: u64 = 1_000_000_000;
/// How often the position of a consumer without acks is logged (hard-parts 10).
pub(super) const POSITION_INTERVAL_NS: u64 = 1_000_000_000;

impl Consumer {
    /// Does what is due: ack waits, request expiry, heartbeats, pins, pause end, inactivity.
    /// Follow with [`Consumer::wake`].
    pub fn tick(&mut self, context: &mut ConsumerContext<'_>) {
        let now_ns = context.now.monotonic_ns;
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        leader.push.tick(context.now);
        if leader.resume_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            leader.resume_at_ns = None;
            context.events.push(ConsumerEvent::PauseEnded);
        }
        if leader
            .waiting
            .deadline_ns()
            .is_some_and(|deadline_ns| deadline_ns <= now_ns)
        {
            self.prune_requests(context);
        }
        self.take_due(context);
        self.push_heartbeat(context);
        if let Some(leader) = self.leader.as_deref_mut() {
            leader.expire_pins(context, &self.settings);
        }
        self.report_inactivity(context);
    }

    fn take_due(&mut self, context: &mut ConsumerContext<'_>) {
        let Some(leader) = self.leader.as_deref() else {
            return;
        };
        let (now_ns, wait_ns) = (leader.axis_ns(context.now), self.settings.first_wait_ns());
        let mut due = Vec::new();
        while due.len() < DUE_PER_TICK_MAX
            && let Some(sequence) = self.state.pending.take_due(now_ns, wait_ns)
        {
            due.push(sequence);
        }
        // What falls due together is delivered again in stream order.
        due.sort_unstable();
        for sequence in due {
            self.make_due(context, sequence);
        }
    }

    /// Monotonic time at which to look whether the consumer is inactive for too long; `None` = it
    /// is in use.
    fn inactive_at_ns(&self) -> Option<u64> {
        let leader = self.leader.as_deref()?;
        let threshold_ns = self.settings.inactive_threshold_ns;
        if threshold_ns == 0 || leader.push.active {
            return None;
        }
        let mut used_ns = leader.last_used_ns;
        if !self.state.pending.is_empty() {
            // Somebody may still be at work on a message.
            let wait_ns = u64::try_from(self.settings.first_wait_ns()).unwrap_or(0);
            used_ns = used_ns.max(leader.last_delivery_ns.saturating_add(wait_ns));
        }
        Some(
            used_ns
                .saturating_add(threshold_ns)
                .saturating_add(leader.inactive_jitter_ns),
        )
    }

    fn report_inactivity(&mut self, context: &mut ConsumerContext<'_>) {
        let now_ns = context.now.monotonic_ns;
        if self.inactive_at_ns().is_none_or(|at_ns| at_ns > now_ns) {
            return;
        }
        if self.is_in_use(context) {
            if let Some(leader) = self.leader.as_deref_mut() {
                leader.last_used_ns = now_ns;
            }
            return;
        }
        context.events.push(ConsumerEvent::Inactive);
        if let Some(leader) = self.leader.as_deref_mut() {
            // Not again before a while: the deletion has to go through the log first.
            leader.inactive_jitter_ns = now_ns
                .saturating_add(INACTIVE_REPEAT_NS)
                .saturating_sub(leader.last_used_ns)
                .saturating_sub(self.settings.inactive_threshold_ns);
        }
    }

    /// Asks the interest itself, not the changes that should have told of it.
    fn is_in_use(&mut self, context: &mut ConsumerContext<'_>) -> bool {
        let used_ns = self.leader.as_ref().map(|leader| leader.last_used_ns);
        match self.settings.mode {
            Mode::Push(_) => self.refresh_interest(context),
            Mode::Pull(_) => self.prune_requests(context),
        }
        let (Some(leader), Some(used_ns)) = (self.leader.as_deref_mut(), used_ns) else {
            return false;
        };
        leader.last_used_ns = used_ns;
        leader.push.active || !leader.waiting.is_empty()
    }

    /// When [`Consumer::tick`] wants to be called, monotonic nanoseconds. May be early, never
    /// late. `None`: nothing waits for time, or this server does not lead.
    pub fn next_deadline(&mut self) -> Option<u64> {
        let wait_ns = self.settings.first_wait_ns();
        let inactive = self.inactive_at_ns();
        let leader = self.leader.as_deref()?;
        let due = self
            .state
            .pending
            .first_due(wait_ns)
            .map(|(due_ns, _)| leader.monotonic_ns(due_ns));
        let push = match &self.settings.mode {
            Mode::Push(push) => leader.push.deadline_ns(push),
            Mode::Pull(_) => None,
        };
        let position = (self.logs_slowly() && self.turn.delivered.is_some()).then(|| {
            leader
                .position_logged_ns
                .saturating_add(POSITION_INTERVAL_NS)
        });
        [
            due,
            push,
            position,
            inactive,
            leader.waiting.deadline_ns(),
            leader.push.replay_at_ns(),
            leader.pin_deadline_ns(),
            leader.resume_at_ns,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
