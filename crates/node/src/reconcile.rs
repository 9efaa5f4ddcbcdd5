//! After the start: the list of streams, which the meta group keeps, and the groups that the journal
//! holds must be the same. They differ when damage took entries of one of them. A stream whose
//! creation was lost comes back from its own group's checkpoint; what is left of a deleted one goes;
//! of what cannot be told, nothing is touched.

use std::collections::BTreeSet;

use millrace_jetstream::{META_GROUP, Stray};
use millrace_replica::GroupId;
use millrace_store::journal::{self, Damage};

use crate::engine::{Running, TurnContext};
use crate::node::{LogLine, LogSeverity};

/// What is known of the list of streams at start.
#[derive(Debug, Default)]
pub(crate) struct Reconciliation {
    /// Entries of the meta group may be lost.
    damaged: bool,
    begun: bool,
    /// Groups whose end the journal says.
    removed: BTreeSet<GroupId>,
    /// Streams of the list whose group ended.
    pub(crate) absent: Vec<GroupId>,
    /// Groups that are on their way into the list again.
    rebuilding: BTreeSet<GroupId>,
    /// Streams whose deletion was lost: they listen to subjects that may be another's now.
    ending: BTreeSet<GroupId>,
}

impl Reconciliation {
    pub(crate) fn new(
        report: &[Damage],
        meta_missing: bool,
        removed: BTreeSet<journal::GroupId>,
    ) -> Self {
        let hurts_meta = |damage: &Damage| match damage {
            Damage::Record { group, .. } => group.0 == META_GROUP.0,
            // Whose records these were cannot be read.
            Damage::Frames { .. } | Damage::FileHeader { .. } | Damage::Unreadable { .. } => true,
        };
        Self {
            damaged: meta_missing || report.iter().any(hurts_meta),
            removed: removed
                .iter()
                .map(|group| GroupId(group.0))
                .filter(|group| !millrace_jetstream::StreamId(group.0).is_volatile())
                .collect(),
            ..Self::default()
        }
    }

    /// Whether the journal says that the group ended: a stream of the list that it belongs to was
    /// deleted, and its group must not begin anew meanwhile. The server may die before the deletion is in the
    /// list again, and the next start would take the beginning for a stream that lives.
    pub(crate) fn has_ended(&self, group: GroupId) -> bool {
        self.removed.contains(&group)
    }
}

impl Running {
    /// Compares, once the meta group leads. True when nothing more has to be waited for.
    pub(crate) fn reconcile(&mut self, context: &mut TurnContext<'_>) -> bool {
        if !self.reconciliation.begun {
            self.reconciliation.begun = true;
            if let Some(last) = self.reconciliation.removed.last() {
                let last = millrace_jetstream::GroupId(last.0);
                self.jetstream.group_was_used(last);
            }
            // A deletion that was lost makes room for a later stream of the same name.
            self.look_at_absent();
            self.look_at_strays(context);
        }
        let waiting = &self.reconciliation;
        let is_there = |group: &GroupId| {
            let group = millrace_jetstream::GroupId(group.0);
            self.jetstream.streams.contains_key(&group.into())
        };
        let returning = |group: &GroupId| self.recovered.contains_key(group);
        !waiting.rebuilding.iter().any(returning) && !waiting.ending.iter().any(is_there)
    }

    fn look_at_strays(&mut self, context: &mut TurnContext<'_>) {
        let strays: Vec<GroupId> = self.recovered.keys().copied().collect();
        for group in strays {
            let found = self.recovered.get(&group);
            let checkpoint = found.and_then(|found| found.checkpoint.as_ref());
            let stray = self.jetstream.stray_group(
                millrace_jetstream::GroupId(group.0),
                checkpoint.map(|checkpoint| &checkpoint.payload),
                self.reconciliation.damaged,
                &mut self.effects,
            );
            match stray {
                Stray::Rebuilt => {
                    self.reconciliation.rebuilding.insert(group);
                }
                Stray::Deleted => self.remove_group(group),
                Stray::Unknown => {
                    let text = format!(
                        "JetStream: the journal holds group {} which belongs to no stream; it is kept",
                        group.0
                    );
                    context.log.push(LogLine::new(LogSeverity::Warning, text));
                }
            }
        }
    }

    fn look_at_absent(&mut self) {
        for group in std::mem::take(&mut self.reconciliation.absent) {
            self.reconciliation.ending.insert(group);
            let group = millrace_jetstream::GroupId(group.0);
            self.jetstream.group_is_gone(group, &mut self.effects);
        }
    }
}
