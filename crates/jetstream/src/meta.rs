//! The meta group: which streams exist, and who may make or remove them (DESIGN decision 3).
//!
//! Its leader stages creations and deletions; they take effect at their entry. A memory stream
//! with one replica never appears here: it is volatile and known to this server run only.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::entry::{
    DecodeError, EntryHead, MetaOperation, Reader, encode_meta, put_block, put_i64, put_u64,
};
use crate::ids::META_GROUP;
use crate::io::{Durability, Effect};
use crate::request::{Outcome, PendingRequest};

/// Version of a meta checkpoint's bytes:
/// `version u8 | index u64 | next group u64 | count u64 | (group u64, created_ns i64, account
/// block, config block)* | count u64 | group u64*`, the latter the streams that are being restored;
/// what an older version wrote ends before it.
const CHECKPOINT_VERSION: u8 = 1;

/// A stream as the meta group knows it. The effective configuration is in the stream's own group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaStream {
    pub(crate) account: Bytes,
    pub(crate) created_ns: i64,
    pub(crate) config: Bytes,
    /// It is being filled from a backup.
    pub(crate) restoring: bool,
}

/// State of the meta group and what its leader stages.
#[derive(Debug, Default)]
pub(crate) struct Meta {
    pub(crate) is_leader: bool,
    pub(crate) streams: BTreeMap<u64, MetaStream>,
    /// Groups are numbered from 1, and no number is used twice.
    pub(crate) next_group: u64,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    /// The newest entry that changed something, and what a durable checkpoint covers.
    pub(crate) changed_index: u64,
    pub(crate) durable_index: u64,
    proposed: u64,
    staged: Vec<MetaOperation>,
    requests: VecDeque<(u64, PendingRequest)>,
    /// Highest group number given out, also by what is in flight.
    staged_group: u64,
    /// Streams of lower numbers that the checkpoint does not have were deleted before it.
    pub(crate) known_below: u64,
}

impl Meta {
    /// A number for a new stream's group.
    pub(crate) fn draw_group(&mut self) -> u64 {
        let group = self.staged_group.max(self.next_group).max(1);
        self.staged_group = group + 1;
        group
    }

    /// Whether the stream's end is staged.
    pub(crate) fn deletes(&self, group: u64) -> bool {
        self.staged.contains(&MetaOperation::Delete { group })
    }

    /// Stages what nobody asked for.
    pub(crate) fn stage_own(&mut self, operation: MetaOperation) {
        self.staged.push(operation);
    }

    pub(crate) fn stage(&mut self, operation: MetaOperation, request: PendingRequest) {
        self.staged.push(operation);
        self.requests.push_back((self.proposed + 1, request));
    }

    /// One entry for all that was staged in the turn.
    pub(crate) fn propose(&mut self, origin: u64, effects: &mut Vec<Effect>) {
        if self.staged.is_empty() {
            return;
        }
        self.proposed += 1;
        let head = EntryHead {
            origin,
            number: self.proposed,
        };
        let data = encode_meta(head, &std::mem::take(&mut self.staged));
        effects.push(Effect::Propose {
            group: META_GROUP,
            data,
            durability: Durability::Now,
        });
    }

    pub(crate) fn take_request(&mut self, number: u64) -> Option<PendingRequest> {
        if self.requests.front().is_none_or(|(at, _)| *at != number) {
            return None;
        }
        self.requests.pop_front().map(|(_, request)| request)
    }

    /// The lead is lost: what was staged is forgotten.
    pub(crate) fn abandon(&mut self, finished: &mut Vec<(PendingRequest, Outcome)>) {
        self.is_leader = false;
        self.staged.clear();
        self.staged_group = 0;
        let requests = std::mem::take(&mut self.requests);
        finished.extend(
            requests
                .into_iter()
                .map(|(_, request)| (request, Outcome::Abandoned)),
        );
    }

    /// Entries are applied that no durable checkpoint covers.
    pub(crate) const fn lacks_checkpoint(&self) -> bool {
        self.changed_index > self.durable_index
    }

    pub(crate) fn checkpoint(&self) -> Bytes {
        let mut out = vec![CHECKPOINT_VERSION];
        put_u64(&mut out, self.applied_index);
        put_u64(&mut out, self.next_group);
        put_u64(&mut out, self.streams.len() as u64);
        for (group, stream) in &self.streams {
            put_u64(&mut out, *group);
            put_i64(&mut out, stream.created_ns);
            put_block(&mut out, &stream.account);
            put_block(&mut out, &stream.config);
        }
        let restoring = self.streams.iter().filter(|(_, stream)| stream.restoring);
        let restoring: Vec<u64> = restoring.map(|(group, _)| *group).collect();
        put_u64(&mut out, restoring.len() as u64);
        for group in restoring {
            put_u64(&mut out, group);
        }
        Bytes::from(out)
    }

    pub(crate) fn restore(&mut self, data: &Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(data.clone());
        let version = reader.u8()?;
        if version != CHECKPOINT_VERSION {
            return Err(DecodeError::Version(version));
        }
        self.applied_index = reader.u64()?;
        self.durable_index = self.applied_index;
        self.next_group = reader.u64()?;
        self.known_below = self.next_group;
        for _ in 0..reader.u64()? {
            let group = reader.u64()?;
            let created_ns = reader.i64()?;
            let account = reader.block()?;
            let config = reader.block()?;
            self.streams.insert(
                group,
                MetaStream {
                    account,
                    created_ns,
                    config,
                    restoring: false,
                },
            );
        }
        if !reader.is_empty() {
            for _ in 0..reader.u64()? {
                if let Some(stream) = self.streams.get_mut(&reader.u64()?) {
                    stream.restoring = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_numbers_are_never_given_twice() {
        let mut meta = Meta::default();
        assert_eq!((meta.draw_group(), meta.draw_group()), (1, 2));
        meta.next_group = 9;
        assert_eq!(meta.draw_group(), 9);
    }

    #[test]
    fn a_meta_checkpoint_survives() {
        let mut meta = Meta {
            next_group: 4,
            applied_index: 8,
            ..Meta::default()
        };
        let config = Bytes::from_static(b"{}");
        let account = Bytes::from_static(b"$G");
        meta.streams.insert(
            3,
            MetaStream {
                account,
                created_ns: 5,
                config,
                restoring: true,
            },
        );
        let mut restored = Meta::default();
        restored.restore(&meta.checkpoint()).expect("just written");
        assert_eq!(restored.streams, meta.streams);
        assert_eq!((restored.next_group, restored.applied_index), (4, 8));
    }
}
