//! What the groups of a journal are after a prefix of what was appended: the oracle's side of
//! `journal_run.rs`.

use bytes::Bytes;
use millrace_store::journal::{GroupId, HardState, Record, RecordKind, RecoveredGroup};
use std::collections::BTreeMap;

/// The state that a prefix of the appended records makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupModel {
    pub(crate) checkpoint: Option<(u64, u64, Bytes)>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: BTreeMap<u64, (u64, Bytes)>,
}

pub(crate) type Model = BTreeMap<GroupId, GroupModel>;
/// What entries hold, read back.
pub(crate) type Payloads = BTreeMap<(GroupId, u64), Bytes>;

pub(crate) fn apply(model: &mut Model, record: &Record) {
    if record.kind == RecordKind::Erase {
        return;
    }
    let payload = record.payload.clone();
    if record.kind == RecordKind::GroupRemoved {
        model.remove(&record.group);
        return;
    }
    let group = model.entry(record.group).or_default();
    match record.kind {
        RecordKind::Entry { index, term } | RecordKind::EntryByReference { index, term } => {
            group.entries.split_off(&index);
            group.entries.insert(index, (term, payload));
        }
        RecordKind::HardState(state) => group.hard_state = Some(state),
        RecordKind::Checkpoint { index, term } => {
            if group
                .entries
                .get(&index)
                .is_some_and(|entry| entry.0 != term)
            {
                group.entries.clear();
            }
            group.entries = group.entries.split_off(&(index + 1));
            group.checkpoint = Some((index, term, payload));
        }
        RecordKind::GroupRemoved | RecordKind::Erase => {}
    }
}

pub(crate) fn model_of(groups: &BTreeMap<GroupId, RecoveredGroup>, payloads: &Payloads) -> Model {
    let group_model = |(id, group): (&GroupId, &RecoveredGroup)| GroupModel {
        checkpoint: group.checkpoint.as_ref().map(|checkpoint| {
            (
                checkpoint.index,
                checkpoint.term,
                checkpoint.payload.clone(),
            )
        }),
        hard_state: group.hard_state,
        entries: group
            .entries
            .iter()
            .map(|entry| {
                let payload = payloads.get(&(*id, entry.index)).cloned();
                (entry.index, (entry.term, payload.unwrap_or_default()))
            })
            .collect(),
    };
    let groups = groups.iter();
    groups.map(|found| (*found.0, group_model(found))).collect()
}

/// The first groups that differ, without payloads.
pub(crate) fn difference(expected: &Model, found: &Model) -> String {
    let short = |model: Option<&GroupModel>| {
        let Some(model) = model else {
            return "none".to_owned();
        };
        let checkpoint = model
            .checkpoint
            .as_ref()
            .map(|checkpoint| (checkpoint.0, checkpoint.1));
        let entries: Vec<(u64, u64)> = model
            .entries
            .iter()
            .map(|(index, entry)| (*index, entry.0))
            .collect();
        format!(
            "checkpoint {checkpoint:?} {:?} entries {entries:?}",
            model.hard_state
        )
    };
    let mut ids: Vec<GroupId> = expected.keys().chain(found.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    let differing = ids
        .into_iter()
        .filter(|id| expected.get(id) != found.get(id));
    let texts = differing.map(|id| {
        let (expected, found) = (short(expected.get(&id)), short(found.get(&id)));
        format!("group {}: all appended {expected}; found {found}", id.0)
    });
    texts.take(3).collect::<Vec<_>>().join("; ")
}
