//! How JetStream comes up once the journal is read: checkpoints are handed in, groups without a tail
//! open at once, the others when their entries are replayed (`replay.rs`). The server is ready when
//! the meta group leads: from then on it is known which streams there are, and what reaches one that
//! is not whole yet waits in `jetstream`.

use bytes::Bytes;
use millrace_jetstream::{Effect, Input, META_GROUP};
use millrace_replica::{GroupId, GroupSpec, HardState, NodeId, RestoredLog};
use millrace_store::disk::DiskCompletion;
use millrace_store::journal::{RecoveredEntry, RecoveredGroup};

use crate::durable::CHECKPOINT_COPIES;
use crate::engine::{Running, TurnContext};
use crate::node::{LogLine, LogSeverity};
use crate::replay::{Replay, ReplayedEntry, WindowFault};

/// This server's number in groups with one voter.
const SELF_NODE: NodeId = NodeId(1);
/// The meta group as the Raft groups name it.
const META: GroupId = GroupId(META_GROUP.0);

const fn of_jetstream(group: GroupId) -> millrace_jetstream::GroupId {
    millrace_jetstream::GroupId(group.0)
}

impl Running {
    pub(crate) fn create_group(
        &mut self,
        group: GroupId,
        volatile: bool,
        context: &mut TurnContext<'_>,
    ) {
        let found = self.recovered.remove(&group);
        if found.is_none() && self.starting && !volatile && self.reconciliation.has_ended(group) {
            self.reconciliation.absent.push(group);
            return;
        }
        let found = found.unwrap_or_default();
        for (first, last) in &found.missing {
            let text = format!(
                "JetStream: entries {first} to {last} of group {} are lost to damage",
                group.0
            );
            context.log.push(LogLine::new(LogSeverity::Error, text));
        }
        let is_damaged = !found.missing.is_empty();
        let copies = found.checkpoint.as_ref().map_or(0, |it| it.copies);
        let (mut log, checkpoint, mut entries) = restored(found);
        let begins_at = entries.first().map_or(1, |entry| entry.index);
        if group != META && checkpoint.is_none() && begins_at > 1 {
            let reason = format!("what came before entry {begins_at} is lost");
            self.set_aside(group, &reason, context);
            return;
        }
        let spec = GroupSpec {
            node: SELF_NODE,
            voters: vec![SELF_NODE],
            volatile,
            seed: self.seed ^ group.0,
        };
        match checkpoint {
            Some(state) => {
                self.jetstream
                    .restore(of_jetstream(group), &state, &mut self.effects);
                // One copy was lost, or never written.
                if copies < CHECKPOINT_COPIES {
                    let (index, term) = (log.applied_index, log.applied_term);
                    self.durable.checkpoint(group, index, term, state);
                }
            }
            None if volatile => {}
            None => {
                if let Some(state) = self.jetstream.first_checkpoint(of_jetstream(group)) {
                    self.durable.checkpoint(group, 0, 0, state);
                }
            }
        }
        pass_over_empty(&spec, &mut log, &mut entries);
        if entries.is_empty() {
            self.open_group(group, &spec, log, context);
        } else {
            self.jetstream.begin_replay(of_jetstream(group), is_damaged);
            self.replays.add(group, Replay::new(spec, log, entries));
        }
    }

    fn open_group(
        &mut self,
        group: GroupId,
        spec: &GroupSpec,
        log: RestoredLog,
        context: &mut TurnContext<'_>,
    ) {
        let opened = self
            .groups
            .open(group, spec, log)
            .and_then(|_handle| self.groups.start(group));
        if let Err(error) = opened {
            let text = format!("JetStream: group {} cannot start: {error}", group.0);
            context.log.push(LogLine::new(LogSeverity::Error, text));
        }
    }

    /// Begins and goes on with replays; opens the groups that are at their end.
    pub(crate) fn advance_replays(&mut self, context: &mut TurnContext<'_>) {
        if self.replays.contains(META) {
            // Its tail says which streams there still are.
            self.replays.begin_first(META);
        } else {
            let jetstream = &self.jetstream;
            let begun = self
                .replays
                .begin(|group| jetstream.is_awaited(of_jetstream(group)));
            for group in begun {
                self.jetstream.load(of_jetstream(group), &mut self.effects);
            }
        }
        for group in self.replays.idle() {
            // Entries are applied to a whole state only.
            if self.jetstream.is_loading(of_jetstream(group)) {
                continue;
            }
            if self.replays.get(group).is_some_and(Replay::is_done) {
                self.end_replay(group, context);
            } else {
                self.read_window(group, context);
            }
        }
    }

    /// Now, if a replay can go on without waiting for the disk.
    pub(crate) fn replay_deadline(&self) -> Option<u64> {
        let mut idle = self.replays.idle().into_iter();
        let ready = idle.any(|group| !self.jetstream.is_loading(of_jetstream(group)));
        ready.then_some(0)
    }

    fn end_replay(&mut self, group: GroupId, context: &mut TurnContext<'_>) {
        let Some(replay) = self.replays.remove(group) else {
            return;
        };
        let ended = Input::Replayed {
            group: of_jetstream(group),
        };
        self.input(ended, context);
        self.open_group(group, &replay.spec, replay.log, context);
    }

    fn read_window(&mut self, group: GroupId, context: &mut TurnContext<'_>) {
        let Some(read) = self.replays.read(group) else {
            return;
        };
        match self.durable.read(read) {
            Ok(request) => context.requests.push(request),
            Err(failed) => {
                // The file is gone although the group needs it: nothing to be tried again.
                let reason = "a journal file is missing".to_owned();
                let _ = self.replays.complete(failed, self.durable.journal());
                self.set_aside(group, &reason, context);
            }
        }
    }

    fn set_aside(&mut self, group: GroupId, reason: &str, context: &mut TurnContext<'_>) {
        self.replays.remove(group);
        let group_aside = Input::SetAside {
            group: of_jetstream(group),
        };
        self.input(group_aside, context);
        let text = format!(
            "JetStream: the journal of group {} cannot be read: {reason}; its stream is set aside \
             until the next start, nothing of it is deleted",
            group.0
        );
        context.log.push(LogLine::new(LogSeverity::Error, text));
    }

    /// Takes the end of a window's read.
    ///
    /// # Errors
    /// The list of streams stays unreadable: without it JetStream cannot run.
    pub(crate) fn replay_read(
        &mut self,
        completion: DiskCompletion,
        context: &mut TurnContext<'_>,
    ) -> Result<(), String> {
        let journal = self.durable.journal();
        let Some((group, result)) = self.replays.complete(completion, journal) else {
            return Ok(());
        };
        match result {
            Ok(entries) => {
                for entry in entries {
                    self.replay_entry(group, entry, context);
                }
            }
            Err(WindowFault::Again) => {}
            Err(WindowFault::Lost(reason)) if group == META => {
                return Err(format!("the list of streams cannot be read: {reason}"));
            }
            Err(WindowFault::Lost(reason)) => self.set_aside(group, &reason, context),
        }
        Ok(())
    }

    fn replay_entry(
        &mut self,
        group: GroupId,
        entry: ReplayedEntry,
        context: &mut TurnContext<'_>,
    ) {
        let ReplayedEntry {
            index,
            term,
            data,
            position,
        } = entry;
        let committed = Input::Committed {
            group: of_jetstream(group),
            index,
            term,
            data,
            position,
        };
        self.input(committed, context);
    }

    /// Once the meta group leads, the API answers and every stream's subjects are listened to.
    /// True when that happened now.
    pub(crate) fn finish_start(&mut self, context: &mut TurnContext<'_>) -> bool {
        if !self.starting || !self.terms.contains_key(&META) {
            return false;
        }
        if !self.reconcile(context) {
            return false;
        }
        self.starting = false;
        for (account, filter, endpoint) in std::mem::take(&mut self.deferred_binds) {
            self.effects.push(Effect::Bind {
                account,
                filter,
                endpoint,
            });
        }
        self.recovered.clear();
        self.input(Input::Started, context);
        let replayed = self.replays.added();
        if replayed > 0 {
            let text = format!("JetStream: {replayed} groups have entries to replay");
            let line = LogLine::new(LogSeverity::Information, text);
            context.log.push(line);
        }
        true
    }
}

/// The first entry of a term changes nothing: a stream that nothing else happened to since its
/// checkpoint stays as it is in there. Its only voter has committed what it has.
fn pass_over_empty(spec: &GroupSpec, log: &mut RestoredLog, entries: &mut Vec<RecoveredEntry>) {
    let nothing = entries.iter().all(|entry| entry.length == 0);
    if let Some(last) = entries.last().filter(|_| nothing && spec.voters.len() == 1) {
        (log.applied_index, log.applied_term) = (last.index, last.term);
        entries.clear();
    }
}

/// What recovery found of a group, as Raft and the stream take it.
fn restored(found: RecoveredGroup) -> (RestoredLog, Option<Bytes>, Vec<RecoveredEntry>) {
    let (applied_index, applied_term, state) = match found.checkpoint {
        Some(checkpoint) => (checkpoint.index, checkpoint.term, Some(checkpoint.payload)),
        None => (0, 0, None),
    };
    let hard_state = found.hard_state.unwrap_or_default();
    let log = RestoredLog {
        applied_index,
        applied_term,
        hard_state: HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        },
        entries: Vec::new(),
    };
    (log, state, found.entries)
}
