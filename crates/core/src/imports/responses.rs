//! Answers that are awaited: for each request with a reply that went into another account, a reply
//! subject there (`_R_.…`) that leads back. It ends with the answer, when nobody waits any more, or
//! when the export's threshold has passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace_clock::Now;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::ServiceExport;
use super::latency::{Measured, SampledHeaders};
use crate::broker::Broker;
use crate::ids::AccountId;
use crate::reserved::SERVICE_REPLY;
use crate::subscription::{Owner, Subscription};

/// Awaited answers of the whole server; beyond, those that end first make room.
const RESPONSES_MAX: usize = 1 << 20;
/// Characters of the parts of a reply subject.
const REPLY_PART: usize = 6;
/// Characters that stand for this server in reply subjects that are measured.
const SERVER_PART: usize = 8;

/// A response by its place in the table, with a number that is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResponseId {
    place: u32,
    number: u64,
}

/// One awaited answer.
#[derive(Debug)]
pub(crate) struct Response {
    number: u64,
    /// The reply subject in the exporter's account.
    subject: Box<[u8]>,
    /// Who asked, and the reply subject there.
    pub(crate) importer: AccountId,
    pub(crate) reply: Vec<u8>,
    pub(crate) export: Arc<ServiceExport>,
    pub(crate) share: bool,
    deadline_ns: u64,
    /// Set for requests whose response time is measured.
    pub(crate) measured: Option<Box<Measured>>,
}

/// What a request says about the answer it wants.
pub(crate) struct Asked<'a> {
    pub(crate) importer: AccountId,
    pub(crate) export: &'a Arc<ServiceExport>,
    pub(crate) reply: &'a [u8],
    pub(crate) requestor: Option<u32>,
    pub(crate) share: bool,
    pub(crate) sampled: Option<SampledHeaders>,
}

/// How the wait for an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It came.
    Answered,
    /// Nobody took the request or the answer.
    NotDelivered,
    /// It did not come in time.
    TimedOut,
    /// Nobody listens on the reply any more.
    InterestLost,
}

/// All awaited answers.
#[derive(Default)]
pub(crate) struct Responses {
    table: Slab<Response>,
    numbers: u64,
    /// By exporter's account and reply subject there.
    by_subject: FxHashMap<(AccountId, Box<[u8]>), ResponseId>,
    /// By importer's account and reply subject there.
    by_reply: BTreeMap<(AccountId, Vec<u8>), Vec<ResponseId>>,
    deadlines: BTreeSet<(u64, ResponseId)>,
    /// Filters that lost a subscription while answers were awaited, to be looked at.
    lost: Vec<(AccountId, Vec<u8>)>,
}

impl Responses {
    pub(crate) fn get(&self, id: ResponseId) -> Option<&Response> {
        let response = self.table.get(id.place as usize)?;
        (response.number == id.number).then_some(response)
    }

    pub(super) fn get_mut(&mut self, id: ResponseId) -> Option<&mut Response> {
        let response = self.table.get_mut(id.place as usize)?;
        (response.number == id.number).then_some(response)
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ns, _)| *deadline_ns)
    }

    fn remove(&mut self, id: ResponseId) -> Option<Response> {
        self.get(id)?;
        let response = self.table.try_remove(id.place as usize)?;
        self.deadlines.remove(&(response.deadline_ns, id));
        let subject = (response.export.account, response.subject.clone());
        self.by_subject.remove(&subject);
        let reply = (response.importer, response.reply.clone());
        if let Some(waiting) = self.by_reply.get_mut(&reply) {
            waiting.retain(|other| *other != id);
            if waiting.is_empty() {
                self.by_reply.remove(&reply);
            }
        }
        Some(response)
    }
}

impl Broker {
    /// Awaits an answer; returns the reply subject for the exporter's account.
    pub(super) fn await_response(&mut self, now: Now, asked: Asked<'_>) -> (ResponseId, Vec<u8>) {
        while self.imports.responses.table.len() >= RESPONSES_MAX {
            let Some((_, first)) = self.imports.responses.deadlines.first().copied() else {
                break;
            };
            self.end_response(now, first, End::TimedOut);
        }
        let subject = self.service_reply(asked.export.account, asked.sampled.is_some());
        let measured = asked.sampled.map(|headers| {
            let requestor = asked.requestor;
            Box::new(self.begin_measuring(now, requestor, asked.importer, asked.share, headers))
        });
        let responses = &mut self.imports.responses;
        responses.numbers += 1;
        let deadline_ns = now.after_ns(asked.export.threshold_ns);
        let place = responses.table.insert(Response {
            number: responses.numbers,
            subject: subject.clone().into_boxed_slice(),
            importer: asked.importer,
            reply: asked.reply.to_vec(),
            export: Arc::clone(asked.export),
            share: asked.share,
            deadline_ns,
            measured,
        });
        let id = ResponseId {
            place: place as u32,
            number: responses.numbers,
        };
        let by_subject = (asked.export.account, subject.clone().into_boxed_slice());
        responses.by_subject.insert(by_subject, id);
        let by_reply = (asked.importer, asked.reply.to_vec());
        responses.by_reply.entry(by_reply).or_default().push(id);
        responses.deadlines.insert((deadline_ns, id));
        (id, subject)
    }

    /// A new reply subject; the first one of an account subscribes to them all.
    pub(crate) fn service_reply(&mut self, account: AccountId, is_measured: bool) -> Vec<u8> {
        let random = &mut self.random;
        let Some(entry) = self.accounts.get_mut(account) else {
            return Vec::new();
        };
        let is_first = entry.reply_prefix.is_empty();
        if is_first {
            let mut prefix = SERVICE_REPLY.to_vec();
            prefix.extend_from_slice(random.base62(REPLY_PART).as_bytes());
            prefix.push(b'.');
            entry.reply_prefix = prefix.into_boxed_slice();
        }
        let mut reply = entry.reply_prefix.to_vec();
        if is_first {
            let filter = [&reply, &b">"[..]].concat();
            let record = Subscription::new(Owner::Responses, account, &filter, None, b"");
            self.add_subscription(record);
        }
        reply.extend_from_slice(self.random.base62(REPLY_PART).as_bytes());
        if is_measured {
            let id = self.identity.server_id.as_bytes();
            reply.push(b'.');
            reply.extend_from_slice(id.get(id.len().saturating_sub(SERVER_PART)..).unwrap_or(id));
            reply.extend_from_slice(b".T");
        }
        reply
    }

    pub(super) fn find_response(&self, account: AccountId, subject: &[u8]) -> Option<ResponseId> {
        let key = (account, Box::from(subject));
        self.imports.responses.by_subject.get(&key).copied()
    }

    /// Another answer came of one that may bring several: the time starts anew.
    pub(super) fn renew_response(&mut self, now: Now, id: ResponseId) {
        let responses = &mut self.imports.responses;
        let Some(response) = responses.get_mut(id) else {
            return;
        };
        let before = response.deadline_ns;
        response.deadline_ns = now.after_ns(response.export.threshold_ns);
        let after = response.deadline_ns;
        responses.deadlines.remove(&(before, id));
        responses.deadlines.insert((after, id));
    }

    /// Ends the wait for an answer.
    pub(super) fn end_response(&mut self, now: Now, id: ResponseId, end: End) {
        let Some(response) = self.imports.responses.remove(id) else {
            return;
        };
        let account = response.export.account;
        if self
            .accounts
            .get(account)
            .is_some_and(|account| account.watched.get(&response.subject).is_some())
        {
            let subject = response.subject.to_vec();
            self.interest_changes.push((account, subject));
        }
        self.tell_end(now, &response, end);
    }

    /// Ends the waits whose time is over.
    pub(crate) fn expire_responses(&mut self, now: Now) {
        while let Some((deadline_ns, id)) = self.imports.responses.deadlines.first().copied() {
            if deadline_ns > now.monotonic_ns {
                return;
            }
            self.end_response(now, id, End::TimedOut);
        }
    }

    /// Notes that a subscription is gone whose answers may be awaited.
    pub(super) fn note_lost(&mut self, account: AccountId, filter: &[u8]) {
        if !self.imports.responses.by_reply.is_empty() && !filter.starts_with(SERVICE_REPLY) {
            let lost = &mut self.imports.responses.lost;
            lost.push((account, filter.to_vec()));
        }
    }

    /// Answers that nobody hears any more are not awaited.
    pub(crate) fn drop_lost_replies(&mut self, now: Now) {
        self.take_answers(now);
        for (account, filter) in std::mem::take(&mut self.imports.responses.lost) {
            self.check_replies(now, account, &filter);
        }
    }

    fn check_replies(&mut self, now: Now, account: AccountId, filter: &[u8]) {
        let from = (account, Vec::new());
        let until = (AccountId(account.0 + 1), Vec::new());
        let by_reply = &self.imports.responses.by_reply;
        let replies: Vec<Vec<u8>> = if millrace_subject::is_literal(filter) {
            let key = (account, filter.to_vec());
            by_reply
                .get_key_value(&key)
                .into_iter()
                .map(|(key, _)| key.1.clone())
                .collect()
        } else {
            by_reply
                .range(from..until)
                .map(|((_, reply), _)| reply)
                .filter(|reply| millrace_subject::matches(filter, reply))
                .cloned()
                .collect()
        };
        for reply in replies {
            if self.has_interest(account, &reply) {
                continue;
            }
            let waiting = self.imports.responses.by_reply.get(&(account, reply));
            for id in waiting.cloned().unwrap_or_default() {
                self.end_response(now, id, End::InterestLost);
            }
        }
    }

    /// Whether an answer on this reply subject of an exporter would be heard; `None` if it is no
    /// such subject.
    pub(crate) fn is_response_awaited(&self, account: AccountId, subject: &[u8]) -> Option<bool> {
        if !subject.starts_with(SERVICE_REPLY) {
            return None;
        }
        let id = self.find_response(account, subject);
        let response = id.and_then(|id| self.imports.responses.get(id));
        Some(response.is_some_and(|response| self.has_interest(response.importer, &response.reply)))
    }
}

impl ServiceExport {
    /// The same export for an answer that asks back: then the asker's account answers.
    pub(super) fn turned(&self, account: AccountId) -> Arc<Self> {
        Arc::new(Self {
            key: self.key,
            account,
            response_type: self.response_type,
            threshold_ns: self.threshold_ns,
            latency: None,
            allow_trace: self.allow_trace,
        })
    }
}
