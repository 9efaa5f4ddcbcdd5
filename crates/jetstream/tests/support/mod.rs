//! A JetStream in memory: entries commit at once or when told, answers are collected, the disk is
//! never there (stores keep everything in memory).

#![allow(dead_code, unreachable_pub)] // Every test file uses a part of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use millrace_clock::Now;
use millrace_jetstream::{
    AccountRef, AccountSettings, Effect, Endpoint, GroupId, Input, JetStream, JournalPosition,
    Message, Outbound, Settings, StreamId,
};

pub const ACCOUNT: AccountRef = AccountRef(1);

/// A message that left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub subject: String,
    pub headers: String,
    pub payload: String,
}

/// Collects what is sent; listens to what it is told.
#[derive(Default)]
pub struct FakeOutbound {
    pub sent: Vec<Sent>,
    pub listens: BTreeSet<Vec<u8>>,
}

impl Outbound for FakeOutbound {
    fn send(
        &mut self,
        _account: AccountRef,
        subject: &[u8],
        _reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> bool {
        self.sent.push(Sent {
            subject: String::from_utf8_lossy(subject).into_owned(),
            headers: String::from_utf8_lossy(headers).into_owned(),
            payload: String::from_utf8_lossy(payload).into_owned(),
        });
        true
    }

    fn deliver(
        &mut self,
        account: AccountRef,
        destination: &[u8],
        _subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> bool {
        self.send(account, destination, reply, headers, payload)
    }

    fn has_interest(&self, _account: AccountRef, subject: &[u8]) -> bool {
        self.listens
            .iter()
            .any(|filter| millrace_subject::matches(filter, subject))
    }

    fn has_queue_interest(&self, _account: AccountRef, _subject: &[u8], _queue: &[u8]) -> bool {
        false
    }
}

/// The log of a group.
#[derive(Clone, Default)]
pub struct Log {
    pub term: u64,
    pub entries: Vec<(u64, u64, Bytes)>,
    pub pending: VecDeque<Bytes>,
}

pub struct Harness {
    pub engine: JetStream,
    pub out: FakeOutbound,
    pub now: Now,
    pub logs: BTreeMap<GroupId, Log>,
    /// Entries wait until [`Harness::commit`].
    pub hold: bool,
    pub binds: BTreeSet<Bytes>,
    pub log_lines: Vec<String>,
    /// Entries count as lying in a journal.
    pub journaled: bool,
    next_reply: u64,
}

pub fn settings() -> Settings {
    Settings {
        accounts: vec![AccountSettings {
            tiers: BTreeMap::new(),
            account: ACCOUNT,
            name: "$G".to_owned(),
            limits: Default::default(),
        }],
        seed: 7,
        ..Settings::default()
    }
}

impl Harness {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let mut harness = Self {
            engine: JetStream::new(settings),
            out: FakeOutbound::default(),
            now: Now {
                monotonic_ns: 1_000_000_000,
                wall_ns: 1_700_000_000_000_000_000,
            },
            logs: BTreeMap::new(),
            hold: false,
            binds: BTreeSet::new(),
            log_lines: Vec::new(),
            journaled: false,
            next_reply: 0,
        };
        let mut effects = Vec::new();
        harness.engine.start(&mut effects);
        harness.carry_out(effects);
        harness
    }

    pub fn input(&mut self, input: Input) {
        self.stage(input);
        self.end_of_turn();
    }

    /// Hands in an input without ending the turn.
    pub fn stage(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.engine
            .handle(self.now, input, &mut self.out, &mut effects);
        self.carry_out(effects);
    }

    pub fn end_of_turn(&mut self) {
        for _ in 0..100 {
            let mut effects = Vec::new();
            self.engine
                .end_of_turn(self.now, &mut self.out, &mut effects);
            if effects.is_empty() {
                return;
            }
            self.carry_out(effects);
        }
        panic!("the engine never comes to rest");
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::CreateGroup { group, .. } => {
                    self.logs.entry(group).or_default();
                    self.elect(group);
                }
                Effect::RemoveGroup { group } => {
                    self.logs.remove(&group);
                }
                Effect::Propose { group, data, .. } => {
                    if let Some(log) = self.logs.get_mut(&group) {
                        log.pending.push_back(data);
                    }
                    if !self.hold {
                        self.commit(group);
                    }
                }
                Effect::Bind { filter, .. } => {
                    self.binds.insert(filter);
                }
                Effect::Unbind { filter, .. } => {
                    self.binds.remove(&filter);
                }
                Effect::Log { text, .. } => self.log_lines.push(text),
                _ => {}
            }
        }
    }

    /// A new term with this server as leader.
    pub fn elect(&mut self, group: GroupId) {
        let Some(log) = self.logs.get_mut(&group) else {
            return;
        };
        log.term += 1;
        log.pending.push_front(Bytes::new());
        self.commit(group);
        let term = self.logs.get(&group).map_or(0, |log| log.term);
        self.stage(Input::RoleChanged {
            group,
            leader: true,
            term,
        });
    }

    /// The lead is lost, and with it all proposals that are not committed.
    pub fn depose(&mut self, group: GroupId) {
        if let Some(log) = self.logs.get_mut(&group) {
            log.pending.clear();
        }
        self.stage(Input::RoleChanged {
            group,
            leader: false,
            term: 0,
        });
    }

    /// Commits one pending entry. False: there is none.
    pub fn commit_one(&mut self, group: GroupId) -> bool {
        let Some(log) = self.logs.get_mut(&group) else {
            return false;
        };
        let Some(data) = log.pending.pop_front() else {
            return false;
        };
        let index = log.entries.len() as u64 + 1;
        let term = log.term;
        log.entries.push((index, term, data.clone()));
        let position = self.journaled.then_some(JournalPosition {
            file: 1,
            offset: index << 20,
        });
        self.stage(Input::Committed {
            group,
            index,
            term,
            data,
            position,
        });
        true
    }

    pub fn commit(&mut self, group: GroupId) {
        while self.commit_one(group) {}
    }

    /// Commits everything, also what comes of it.
    pub fn commit_all(&mut self) {
        loop {
            let groups: Vec<GroupId> = self
                .logs
                .iter()
                .filter(|(_, log)| !log.pending.is_empty())
                .map(|(group, _)| *group)
                .collect();
            if groups.is_empty() {
                return;
            }
            for group in groups {
                self.commit(group);
            }
            self.end_of_turn();
        }
    }

    /// Turns until the engine has nothing left to do at once.
    pub fn rest(&mut self) -> u64 {
        let mut turns = 0;
        while self.engine.next_deadline() == Some(0) {
            self.input(Input::Tick);
            turns += 1;
            assert!(turns < 10_000, "the engine never comes to rest");
        }
        turns
    }

    pub fn advance_ms(&mut self, milliseconds: u64) {
        self.now.monotonic_ns += milliseconds * 1_000_000;
        self.now.wall_ns += (milliseconds * 1_000_000) as i64;
        self.input(Input::Tick);
    }

    /// An API request; its answer, if there is one now.
    pub fn api(&mut self, call: &str, body: &str) -> Option<serde_json::Value> {
        let reply = self.fresh_reply();
        let message = Message {
            subject: Bytes::from(format!("$JS.API.{call}")),
            reply: Bytes::from(reply.clone()),
            payload: Bytes::from(body.to_owned()),
            ..Message::default()
        };
        self.input(Input::Deliver {
            account: ACCOUNT,
            endpoint: Endpoint::Api,
            message,
        });
        let answer = self.take(&reply)?;
        serde_json::from_str(&answer.payload).ok()
    }

    /// Creates a stream with `subjects` `<name>.>`; `extra` is JSON fields with a leading comma.
    pub fn create(&mut self, name: &str, extra: &str) -> StreamId {
        let body = format!("{{\"name\":\"{name}\",\"subjects\":[\"{name}.>\"]{extra}}}");
        let answer = self
            .api(&format!("STREAM.CREATE.{name}"), &body)
            .expect("an answer");
        assert!(answer.get("error").is_none(), "{answer}");
        self.engine
            .stream_by_name(ACCOUNT, name)
            .expect("just created")
            .id
    }

    /// The reply subject that was given out last.
    pub fn last_reply(&self) -> String {
        format!("_INBOX.{}", self.next_reply)
    }

    pub fn fresh_reply(&mut self) -> String {
        self.next_reply += 1;
        format!("_INBOX.{}", self.next_reply)
    }

    /// Takes the first message sent to a subject.
    pub fn take(&mut self, subject: &str) -> Option<Sent> {
        let place = self
            .out
            .sent
            .iter()
            .position(|sent| sent.subject == subject)?;
        Some(self.out.sent.remove(place))
    }

    /// Publishes within the current turn; gives the reply subject.
    pub fn publish_later(
        &mut self,
        stream: StreamId,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &str,
    ) -> String {
        let reply = self.fresh_reply();
        let message = Message {
            subject: Bytes::from(subject.to_owned()),
            reply: Bytes::from(reply.clone()),
            headers: header_block(headers),
            payload: Bytes::from(payload.to_owned()),
            client: None,
        };
        let endpoint = Endpoint::Ingest(stream);
        self.stage(Input::Deliver {
            account: ACCOUNT,
            endpoint,
            message,
        });
        reply
    }

    /// Publishes and gives the answer's payload; empty for a staged message, `-` for none.
    pub fn publish(
        &mut self,
        stream: StreamId,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &str,
    ) -> String {
        let reply = self.publish_later(stream, subject, headers, payload);
        self.end_of_turn();
        self.answer(&reply)
    }

    pub fn answer(&mut self, reply: &str) -> String {
        self.take(reply)
            .map_or_else(|| "-".to_owned(), |sent| sent.payload)
    }

    /// `messages first last` of a stream.
    pub fn state(&self, stream: StreamId) -> (u64, u64, u64) {
        let state = self
            .engine
            .streams
            .get(&stream)
            .expect("a stream")
            .store
            .state();
        (state.messages, state.first_sequence, state.last_sequence)
    }

    /// The log of all groups handed to a fresh engine: its hash of a stream's state.
    pub fn replayed_hash(&self, settings: Settings, stream: StreamId) -> u64 {
        self.replayed_hash_with(settings, stream, 0)
    }

    /// The same, with so many turns between entries; what is left to do then is done at the end.
    pub fn replayed_hash_with(&self, settings: Settings, stream: StreamId, turns: u64) -> u64 {
        let mut other = Self {
            engine: JetStream::new(settings),
            out: FakeOutbound::default(),
            now: Now {
                monotonic_ns: 5,
                wall_ns: 5,
            },
            logs: BTreeMap::new(),
            hold: false,
            binds: BTreeSet::new(),
            log_lines: Vec::new(),
            journaled: false,
            next_reply: 0,
        };
        let meta = self.logs.get(&GroupId(0)).expect("a meta group");
        let group = stream.group();
        let own = self.logs.get(&group).expect("a stream group");
        for (group, log) in [(GroupId(0), meta), (group, own)] {
            for (index, term, data) in &log.entries {
                let mut effects = Vec::new();
                let (index, term, data) = (*index, *term, data.clone());
                let input = Input::Committed {
                    group,
                    index,
                    term,
                    data,
                    position: None,
                };
                other
                    .engine
                    .handle(other.now, input, &mut other.out, &mut effects);
                for _ in 0..turns {
                    if !other.engine.is_behind() {
                        break;
                    }
                    other.input(Input::Tick);
                }
            }
        }
        while other.engine.is_behind() {
            other.input(Input::Tick);
        }
        other
            .engine
            .streams
            .get(&stream)
            .expect("replayed")
            .state_hash()
    }

    pub fn hash(&self, stream: StreamId) -> u64 {
        self.engine
            .streams
            .get(&stream)
            .expect("a stream")
            .state_hash()
    }
}

pub fn header_block(headers: &[(&str, &str)]) -> Bytes {
    if headers.is_empty() {
        return Bytes::new();
    }
    let mut block = "NATS/1.0\r\n".to_owned();
    for (key, value) in headers {
        block.push_str(&format!("{key}: {value}\r\n"));
    }
    block.push_str("\r\n");
    Bytes::from(block)
}

/// `err_code` of an answer; 0: no error.
pub fn code(answer: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(answer)
        .ok()
        .and_then(|answer| answer.get("error")?.get("err_code")?.as_u64())
        .unwrap_or(0)
}
