//! JetStream after a restart: which streams are whole, whose index is read when, and what has to wait
//! for it. What a stream itself keeps of its start is `stream/start.rs`.

use millrace_clock::Now;

use crate::api::{self, Need};
use crate::engine::JetStream;
use crate::ids::{AccountRef, GroupId, StreamId};
use crate::io::Effect;
use crate::outbound::Outbound;
use crate::request::PendingRequest;
use crate::stream::Stream;
use crate::stream::start::Parked;

/// Indexes read at the same time because somebody waits for them.
const INDEX_READS_MAX: usize = 4;

/// For the rooms around, while they replay the journal.
impl JetStream {
    /// The journal holds entries of this group, some of them lost if `is_damaged`: until [`crate::Input::Replayed`], nothing else
    /// reaches its stream.
    pub fn begin_replay(&mut self, group: GroupId, is_damaged: bool) {
        if let Some(stream) = self.streams.get_mut(&StreamId::from(group)) {
            stream.begin_start(true);
            if is_damaged {
                stream.note_damage();
            }
        }
    }

    /// Asks for the index of the group's stream, to replay entries onto it.
    pub fn load(&mut self, group: GroupId, effects: &mut Vec<Effect>) {
        if let Some(stream) = self.streams.get_mut(&StreamId::from(group)) {
            stream.read_index(effects);
        }
    }

    /// The index of the group's stream is not there yet, or entries before wait to be applied: no
    /// further one may be handed in.
    #[must_use]
    pub fn is_loading(&self, group: GroupId) -> bool {
        let stream = self.streams.get(&StreamId::from(group));
        stream.is_some_and(|stream| {
            !stream.quarantined && (!stream.store.is_loaded() || stream.is_behind())
        })
    }

    /// Somebody waits for the group's stream: it should be replayed before others.
    #[must_use]
    pub fn is_awaited(&self, group: GroupId) -> bool {
        let stream = self.streams.get(&StreamId::from(group));
        stream.is_some_and(Stream::is_awaited)
    }
}

impl JetStream {
    /// All streams are known: those that cannot answer yet listen, and park what they hear.
    pub(crate) fn bind_starting(
        &mut self,
        now: Now,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let starting = self.streams.values();
        let starting =
            starting.filter(|stream| stream.is_starting() && !stream.bound && !stream.restoring);
        let ids: Vec<StreamId> = starting.map(|stream| stream.id).collect();
        for id in ids {
            self.with_stream(now, id, out, effects, |stream, turn| {
                stream.bind_all(turn, true);
            });
        }
    }

    /// Begins reading the indexes that are wanted, a few at a time.
    pub(crate) fn read_indexes(
        &mut self,
        now: Now,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        while self.reading_index.len() < INDEX_READS_MAX
            && let Some(id) = self.shared.indexes_wanted.pop_front()
        {
            let there = self.with_stream(now, id, out, effects, |stream, turn| {
                let there = stream.read_index(turn.effects);
                if there {
                    stream.loaded(turn);
                }
                there
            });
            match there {
                Some(true) => self.unpark(now, out, effects),
                Some(false) => {
                    self.reading_index.insert(id);
                }
                None => {}
            }
        }
    }

    /// A read of this stream ended: if its index is whole now, the next one may begin.
    pub(crate) fn note_index_read(&mut self, id: StreamId) {
        let loaded = self.streams.get(&id).is_none_or(|it| it.store.is_loaded());
        if loaded {
            self.reading_index.remove(&id);
        }
    }

    /// Lets a request through, or keeps it until what it asks about is whole.
    pub(crate) fn admit_request(
        &mut self,
        now: Now,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) -> Option<PendingRequest> {
        let need = api::need_of(&request.message);
        if let Some(id) = self.stream_in_the_way(now, request.account, &need) {
            self.park_request(now, id, request, out, effects);
            return None;
        }
        if need.of_account && self.want_account(now, request.account) {
            if self.awaiting_whole.len() >= self.shared.max_buffered_messages {
                api::refuse(self, now, &request, out, effects);
            } else {
                self.awaiting_whole.push_back(request);
            }
            return None;
        }
        Some(request)
    }

    fn stream_in_the_way(&self, now: Now, account: AccountRef, need: &Need) -> Option<StreamId> {
        let stream = self.stream_by_name(account, need.stream.as_deref()?)?;
        let waits = if need.index {
            stream.is_starting()
        } else {
            !stream.is_whole(now.wall_ns)
        };
        waits.then_some(stream.id)
    }

    fn park_request(
        &mut self,
        now: Now,
        id: StreamId,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let full = self.with_stream(now, id, out, effects, |stream, turn| {
            stream.park(turn, Parked::Request(request))
        });
        if let Some(Some(Parked::Request(request))) = full {
            api::refuse(self, now, &request, out, effects);
        }
    }

    /// Whether some stream of the account is not whole; sees to it that it becomes so.
    fn want_account(&mut self, now: Now, account: AccountRef) -> bool {
        let streams = self.streams.values_mut();
        let mut wait = false;
        for stream in streams.filter(|stream| stream.account == account) {
            if !stream.is_whole(now.wall_ns) {
                stream.want_index(&mut self.shared);
                wait = true;
            }
        }
        wait
    }

    /// Goes on with what waited for streams whose start is over.
    pub(crate) fn unpark(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        if self.shared.started.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.shared.started) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let account = stream.account;
            for parked in stream.parking.take() {
                match parked {
                    Parked::Message(endpoint, message) => {
                        self.deliver(now, account, endpoint, message, out, effects);
                    }
                    Parked::Request(request) => self.request_again(now, request, out, effects),
                }
            }
        }
        for request in std::mem::take(&mut self.awaiting_whole) {
            self.request_again(now, request, out, effects);
        }
    }

    /// A stream goes away while something waits for it: requests learn that it is gone.
    pub(crate) fn leave_parking(
        &mut self,
        now: Now,
        stream: &mut Stream,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        for parked in stream.parking.take() {
            if let Parked::Request(request) = parked {
                self.request_again(now, request, out, effects);
            }
        }
        for request in std::mem::take(&mut self.awaiting_whole) {
            self.request_again(now, request, out, effects);
        }
    }

    fn request_again(
        &mut self,
        now: Now,
        request: PendingRequest,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(request) = self.admit_request(now, request, out, effects) {
            api::handle(self, now, request, out, effects);
        }
    }
}
