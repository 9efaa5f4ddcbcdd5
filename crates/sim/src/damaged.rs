//! A run whose disk flips bits: which streams they concern, and whether the server says so.

use crate::damage::{Damage, Hits, Record};
use crate::node_run::NodeRun;
use crate::resolve::Seen;
use crate::track::{Existence, Track};
use std::collections::{BTreeMap, BTreeSet};

/// Flips of a run. With more, most runs would be about copies that were hit together.
const FLIPS_MAX: u64 = 4;

/// All that is known of damage in a run.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    damage: Damage,
    /// Streams' names by group, also of former ones.
    names: BTreeMap<u64, String>,
    /// Journal entries that were hit.
    hit: Vec<Record>,
    /// Those that a start since the last check could not have read.
    at_risk: Vec<Record>,
    /// The log says that something is damaged or lost.
    pub(crate) told: bool,
}

impl Damaged {
    /// Takes an error of the server's log.
    pub(crate) fn heard(&mut self, text: &str) {
        let words = ["damage", "lost", "unreadable", "cannot be read"];
        self.told |= words.iter().any(|word| text.contains(word));
    }

    /// The stream that a group is of now, if it is not that of a former one.
    fn stream_of(&self, group: u64, streams: &[Track]) -> Option<usize> {
        let name = self.names.get(&group)?;
        let newest = self.names.iter().rev().find(|(_, other)| *other == name);
        let stream = streams.iter().position(|track| track.name == *name)?;
        let track = &streams[stream];
        let is_there = track.existence != Existence::Absent && !track.model.limits.memory;
        (is_there && newest.map(|(newest, _)| *newest) == Some(group)).then_some(stream)
    }
}

impl NodeRun {
    /// Some bit has flipped in this run.
    pub(crate) fn is_damaged(&self) -> bool {
        self.world.disk.counters().flipped_bits > 0
    }

    /// Flips some bits of cold data.
    pub(crate) fn flip_bits(&mut self) {
        for _ in 0..1 + self.random.below(2) {
            if self.world.disk.counters().flipped_bits >= FLIPS_MAX {
                return;
            }
            let damage = &mut self.damaged.damage;
            let Some(hits) = damage.flip(&mut self.world.disk, &mut self.random) else {
                return;
            };
            if self.world.trace {
                eprintln!("flip {hits:?}");
            }
            let scan = Damage::scan(&self.world.disk);
            self.damaged.names.extend(scan.names());
            self.note_hits(hits);
        }
    }

    fn note_hits(&mut self, hits: Hits) {
        if let Some((group, sequence)) = hits.message
            && let Some(stream) = self.damaged.stream_of(group, &self.streams)
        {
            self.streams[stream].unreadable.insert(sequence);
            self.streams[stream].missing.insert(sequence);
        }
        for entry in hits.entries {
            if let Some(stream) = self.damaged.stream_of(entry.group, &self.streams) {
                self.streams[stream].entries_hit(std::slice::from_ref(&entry));
            }
            self.damaged.hit.push(entry);
        }
    }

    /// The server is about to start: what was hit and is in no checkpoint may be lost to it.
    pub(crate) fn note_risk(&mut self) {
        if self.damaged.hit.is_empty() {
            return;
        }
        let scan = Damage::scan(&self.world.disk);
        self.damaged.names.extend(scan.names());
        let at_risk = &self.damaged.at_risk;
        let mut known: BTreeSet<(u64, u64)> = at_risk
            .iter()
            .map(|entry| (entry.group, entry.index))
            .collect();
        let open = |entry: &&Record| {
            entry.index > scan.checkpointed(entry.group) && known.insert((entry.group, entry.index))
        };
        let more: Vec<Record> = self.damaged.hit.iter().filter(open).cloned().collect();
        for entry in &more {
            if let Some(stream) = self.damaged.stream_of(entry.group, &self.streams) {
                self.streams[stream].forgive_consumers(std::slice::from_ref(entry));
                self.streams[stream].doubtful = true;
            }
        }
        self.damaged.at_risk.extend(more);
        let groups: BTreeSet<u64> = self.damaged.at_risk.iter().map(|it| it.group).collect();
        for group in groups {
            if let Some(stream) = self.damaged.stream_of(group, &self.streams) {
                let at_risk = self.damaged.at_risk.iter();
                let entries: Vec<&Record> = at_risk.filter(|it| it.group == group).collect();
                self.streams[stream].doubt(scan.log(group), &entries);
            }
        }
    }

    /// Entries of the stream that may be lost; each is asked for once.
    pub(crate) fn entries_at_risk(&mut self, stream: usize) -> Vec<Record> {
        let at_risk = std::mem::take(&mut self.damaged.at_risk);
        let is_of =
            |entry: &Record| self.damaged.stream_of(entry.group, &self.streams) == Some(stream);
        let (of_stream, others) = at_risk.into_iter().partition(is_of);
        self.damaged.at_risk = others;
        of_stream
    }

    /// Messages that were hit and are not served: counted still, or gone.
    pub(crate) fn note_unreadable(
        &mut self,
        stream: usize,
        info: &serde_json::Value,
        seen: &mut Seen,
    ) {
        let deleted = info["state"]["deleted"].as_array();
        let deleted: BTreeSet<u64> = deleted
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_u64)
            .collect();
        let track = &self.streams[stream];
        let is_counted = |sequence: &u64| {
            (seen.first..=seen.last).contains(sequence)
                && !seen.messages.contains_key(sequence)
                && !deleted.contains(sequence)
        };
        seen.unreadable = track
            .unreadable
            .iter()
            .copied()
            .filter(is_counted)
            .collect();
        seen.missing = track.missing.clone();
    }

    /// What damage took must have been reported.
    pub(crate) fn damage_is_told(
        &mut self,
        stream: usize,
        seen: &Seen,
        lost: bool,
    ) -> Result<(), String> {
        self.outcome.unreadable += seen.unreadable.len() as u64;
        self.outcome.losses += u64::from(lost);
        if !seen.unreadable.is_empty() && !self.damaged.told {
            return Err(format!("S{stream}: damage, and the log does not say so"));
        }
        Ok(())
    }
}
