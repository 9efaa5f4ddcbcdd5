//! Questions about the index of a store. None of them needs the disk.

use super::index::NextSubject;
use super::{Filter, Storage, StreamState, StreamStore, SubjectState, accounting_size};
use bytes::Bytes;
use std::ops::RangeInclusive;

impl StreamStore {
    /// The numbers of the stream.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.load
            .as_ref()
            .map_or_else(|| self.index.state(), |load| load.content.state)
    }

    /// Missing sequences between the first and the last, as ascending inclusive ranges.
    pub fn deleted_ranges(&self) -> impl Iterator<Item = RangeInclusive<u64>> + '_ {
        self.index.deleted.ranges()
    }

    /// Whether the message is there.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        self.index.rows.get(sequence).is_some()
    }

    /// The subject of a stored message.
    #[must_use]
    pub fn subject_of(&self, sequence: u64) -> Option<&Bytes> {
        let row = self.index.rows.get(sequence)?;
        Some(self.index.subjects.entry(row.subject)?.name())
    }

    /// The time of a stored message, nanoseconds since the Unix epoch.
    #[must_use]
    pub fn time_of(&self, sequence: u64) -> Option<i64> {
        self.index.rows.get(sequence).map(|row| row.time_ns)
    }

    /// The accounting size of a stored message in bytes.
    #[must_use]
    pub fn size_of(&self, sequence: u64) -> Option<u64> {
        self.index.size_of(sequence)
    }

    /// The accounting size that a message would have in this store.
    #[must_use]
    pub fn accounting_size(&self, subject: usize, headers: usize, payload: usize) -> u64 {
        accounting_size(
            self.settings.storage != Storage::Memory,
            subject,
            headers,
            payload,
        )
    }

    /// The oldest message.
    #[must_use]
    pub fn oldest(&self) -> Option<u64> {
        let state = self.index.state();
        (state.messages > 0).then_some(state.first_sequence)
    }

    /// The first matching message at or after `from`.
    ///
    /// Literal filters cost a logarithm; wildcards are never slower than the cheaper of walking
    /// the messages that follow and walking the subjects that match. After `None`, a reader should
    /// go on from `state().last_sequence + 1`: asking from further back repeats the search.
    #[must_use]
    pub fn next_match(&self, filter: &Filter, from: u64) -> Option<u64> {
        self.index.next_match(filter, from)
    }

    /// The last matching message at or before `up_to`.
    #[must_use]
    pub fn last_match(&self, filter: &Filter, up_to: u64) -> Option<u64> {
        self.index.last_match(filter, up_to)
    }

    /// How many matching messages there are at or after `from`.
    #[must_use]
    pub fn count_from(&self, filter: &Filter, from: u64) -> u64 {
        self.index.count_from(filter, from)
    }

    /// The first message stored at or after `time_ns`.
    #[must_use]
    pub fn first_at_or_after(&self, time_ns: i64) -> Option<u64> {
        self.index.rows.first_at_or_after(time_ns)
    }

    /// The newest message of a literal subject.
    #[must_use]
    pub fn last_of(&self, subject: &[u8]) -> Option<u64> {
        self.subject_state(subject).map(|state| state.last)
    }

    /// The oldest message of a literal subject.
    #[must_use]
    pub fn first_of(&self, subject: &[u8]) -> Option<u64> {
        self.subject_state(subject).map(|state| state.first)
    }

    /// Count, first and last of a literal subject; `None` when it has no message.
    #[must_use]
    pub fn subject_state(&self, subject: &[u8]) -> Option<SubjectState> {
        self.index
            .subjects
            .by_name(subject)
            .map(super::index::Entry::state)
    }

    /// Visits all subjects that match, in byte order of their tokens.
    pub fn for_each_subject(&self, filter: &Filter, visit: impl FnMut(&[u8], SubjectState)) {
        self.index.for_each_subject(filter, visit);
    }

    /// Visits subjects that match one filter and come after `after`, in token order, in about
    /// `steps` looks. Gives the subject after which to go on; `None` at the end.
    pub fn walk_subjects(
        &self,
        filter: &[u8],
        after: Option<&[u8]>,
        steps: usize,
        mut visit: impl FnMut(&Bytes, SubjectState),
    ) -> Option<Bytes> {
        let mut after = after.map(Bytes::copy_from_slice);
        let mut left = steps.max(1);
        while left > 0 {
            let subjects = &self.index.subjects;
            match subjects.next_match(filter, after.as_deref(), &mut left) {
                NextSubject::Found(entry) => {
                    visit(entry.name(), entry.state());
                    after = Some(entry.name().clone());
                }
                NextSubject::Pause(subject) => after = Some(subject.clone()),
                NextSubject::End => return None,
            }
        }
        after
    }

    /// The newest message at or before `up_to` of every matching subject, ascending; `None` when
    /// there are more than `limit`.
    #[must_use]
    pub fn last_per_subject(&self, filter: &Filter, up_to: u64, limit: usize) -> Option<Vec<u64>> {
        self.index.last_per_subject(filter, up_to, limit)
    }
}
