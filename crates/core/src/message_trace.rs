//! Traces of messages (spec core/14 §14.1): what a message meets on its way through this server is
//! collected while it is published, and told on the subject that its headers or its account name.
//! Who may be told is decided here, how an event is written in `node`.

use std::collections::BTreeMap;

use millrace_clock::Now;
use millrace_subject::is_valid_literal;
use millrace_wire::headers;

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::effects::LogLevel;
use crate::ids::{AccountId, EndpointId};
use crate::limits::STALL_QUARTERS;
use crate::publish::{Message, Outcome, Outgoing};
use crate::reserved;
use crate::session::Session;
use crate::subscription::{Owner, Subscription};

const DESTINATION: &[u8] = b"Nats-Trace-Dest";
const ONLY: &[u8] = b"Nats-Trace-Only";
const ORIGIN_ACCOUNT: &[u8] = b"Nats-Trace-Origin-Account";
const PARENT: &[u8] = b"traceparent";
/// Stands as destination where a trace must not go on; no valid subject, on purpose.
const DISABLED: &[u8] = b"trace disabled";
/// Steps of one message that are told; of a message with more receivers the rest is left out.
const STEPS_MAX: usize = 10_000;
/// The whole, in percent.
const WHOLE: u64 = 100;

/// A message that was traced.
#[derive(Clone, Debug)]
pub struct MessageTrace {
    /// The account in which the trace is published.
    pub account: AccountId,
    /// Where it is published.
    pub destination: Vec<u8>,
    /// The message's headers.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Bytes of headers and payload.
    pub message_bytes: usize,
    /// What it met, in order; the first is its arrival.
    pub steps: Vec<TraceStep>,
    is_only: bool,
    /// What a subscription of another account says in this one; for the next delivery.
    foreign_filter: Option<Vec<u8>>,
}

/// Something that a traced message met.
#[derive(Clone, Debug)]
pub struct TraceStep {
    /// Nanoseconds since 1970.
    pub at_wall_ns: i64,
    /// What it was.
    pub kind: TraceKind,
}

/// What a traced message met.
#[derive(Clone, Debug)]
pub enum TraceKind {
    /// It came from a client.
    Ingress {
        client: u64,
        name: String,
        account: String,
        subject: Vec<u8>,
    },
    /// Its subject was mapped.
    Mapped { to: Vec<u8> },
    /// A subscription of another account hears it.
    StreamExport { account: String, to: Vec<u8> },
    /// It went on into another account.
    ServiceImport {
        account: String,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// A receiver inside the server got it.
    Inside {
        endpoint: EndpointId,
        subject: Vec<u8>,
    },
    /// A client got it, or why it did not.
    Egress {
        client: u64,
        name: String,
        /// Empty for the account it came in.
        account: String,
        subscription: Vec<u8>,
        queue: Vec<u8>,
        /// Empty if it was delivered.
        error: &'static str,
    },
}

/// What a message's trace headers mean for its way.
pub(crate) enum TraceStart {
    /// Nothing.
    Untraced,
    /// It is not published at all.
    Dropped,
    /// It goes on with these headers, which keep others from tracing it.
    Changed(Vec<u8>),
    /// It is traced.
    Traced,
}

impl Broker {
    /// Looks at the headers of a client's message.
    #[cold]
    pub(crate) fn begin_trace(&mut self, now: Now, slot: u32, message: &Message<'_>) -> TraceStart {
        let session = self.sessions.get(slot as usize);
        let Some(account) = session.and_then(|session| session.account) else {
            return TraceStart::Untraced;
        };
        let block = message.headers;
        let named = headers::find(block, DESTINATION).filter(|value| !value.is_empty());
        if named == Some(DISABLED) || (named.is_none() && !is_sampled_outside(block)) {
            return TraceStart::Untraced;
        }
        let value = headers::find(block, ONLY).unwrap_or_default();
        let is_only = named.is_some() && is_yes(value);
        let end = || {
            if is_only {
                TraceStart::Dropped
            } else {
                TraceStart::Untraced
            }
        };
        let disabled = || TraceStart::Changed(headers::set(block, DESTINATION, DISABLED));
        if let Some(origin) = headers::find(block, ORIGIN_ACCOUNT) {
            let origin = String::from_utf8_lossy(origin).into_owned();
            let text = format!(
                "Message tracing disabled because of header \"Nats-Trace-Origin-Account\" with value={origin:?}"
            );
            self.log_for(slot, LogLevel::Error, &text);
            return if is_only {
                TraceStart::Dropped
            } else {
                disabled()
            };
        }
        let destination = match named {
            Some(named) => named.to_vec(),
            None => {
                let Some((destination, sampling)) = self.account_trace(account) else {
                    return TraceStart::Untraced;
                };
                if sampling < WHOLE && self.random.below(WHOLE) > sampling {
                    return disabled();
                }
                destination
            }
        };
        if !is_valid_literal(&destination) {
            let shown = String::from_utf8_lossy(&destination);
            let text = format!("Destination {shown:?} is not valid, won't be able to trace events");
            self.log_for(slot, LogLevel::Error, &text);
            return end();
        }
        self.begin_collecting(now, slot, account, (destination, is_only), message)
    }

    /// Begins to collect, if the client may have its messages told of there.
    fn begin_collecting(
        &mut self,
        now: Now,
        slot: u32,
        account: AccountId,
        (destination, is_only): (Vec<u8>, bool),
        message: &Message<'_>,
    ) -> TraceStart {
        let block = message.headers;
        let Some(session) = self.sessions.get(slot as usize) else {
            return TraceStart::Dropped;
        };
        let rules = session.client.permissions.as_deref();
        if reserved::is_refused_subject(&destination, account)
            || rules.is_some_and(|rules| !rules.can_publish(&destination))
        {
            self.publish_violation(slot, &destination);
            return TraceStart::Dropped;
        }
        let ingress = TraceKind::Ingress {
            client: session.id.0,
            name: name_of(session),
            account: self.account_name(account).to_owned(),
            subject: message.subject.to_vec(),
        };
        self.message_trace = Some(Box::new(MessageTrace {
            account,
            destination,
            headers: all_headers(block),
            message_bytes: block.len() + message.payload.len(),
            steps: Vec::new(),
            is_only,
            foreign_filter: None,
        }));
        self.is_message_traced = true;
        self.add_step(now, ingress);
        TraceStart::Traced
    }

    /// The message has gone its way: its trace can be told.
    #[cold]
    pub(crate) fn end_trace(&mut self) {
        self.is_message_traced = false;
        if let Some(trace) = self.message_trace.take() {
            self.message_traces.push(*trace);
        }
    }

    /// Appends the traces of messages since the last call.
    pub fn take_message_traces(&mut self, out: &mut Vec<MessageTrace>) {
        out.append(&mut self.message_traces);
    }

    /// Where messages with a `traceparent` are told of, and how many of them in percent.
    fn account_trace(&self, account: AccountId) -> Option<(Vec<u8>, u64)> {
        let name = self.account_name(account);
        let mut accounts = self.options.accounts.iter();
        let trace = &accounts.find(|account| account.name == name)?.message_trace;
        let destination = trace.destination.as_bytes().to_vec();
        (!destination.is_empty()).then_some((destination, u64::from(trace.sampling)))
    }

    pub(crate) fn add_step(&mut self, now: Now, kind: TraceKind) {
        if let Some(trace) = self.message_trace.as_deref_mut()
            && trace.steps.len() < STEPS_MAX
        {
            trace.steps.push(TraceStep {
                at_wall_ns: now.wall_ns,
                kind,
            });
        }
    }

    /// Whether the message is to be told of and not delivered.
    fn is_trace_only(&self) -> bool {
        self.message_trace
            .as_deref()
            .is_some_and(|trace| trace.is_only)
    }

    /// As `deliver`, for a message that is traced.
    #[cold]
    pub(crate) fn deliver_traced(
        &mut self,
        now: Now,
        key: SubscriptionKey,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        let Some(record) = self.subscriptions.get(key) else {
            return Outcome::Refused;
        };
        match record.owner {
            Owner::Session(slot) => {
                let error = self.refusal(slot, record, outgoing);
                let mut step = self.egress(slot, record, error);
                let trace = self.message_trace.as_deref_mut();
                if let Some(filter) = trace.and_then(|trace| trace.foreign_filter.take())
                    && let TraceKind::Egress { subscription, .. } = &mut step
                {
                    *subscription = filter;
                }
                self.add_step(now, step);
                if !error.is_empty() {
                    return Outcome::Refused;
                }
                if self.is_trace_only() {
                    outgoing.delivered.clients += 1;
                    return Outcome::Taken;
                }
            }
            Owner::Endpoint(endpoint) => {
                let subject = outgoing.destination.to_vec();
                self.add_step(now, TraceKind::Inside { endpoint, subject });
                if self.is_trace_only() {
                    outgoing.delivered.endpoints += 1;
                    return Outcome::Taken;
                }
            }
            Owner::Service(_) | Owner::Responses | Owner::Shadow(_) | Owner::Callouts => {}
        }
        self.deliver_now(now, key, outgoing)
    }

    /// Why a client will not get the message; empty if it will.
    fn refusal(&self, slot: u32, record: &Subscription, outgoing: &Outgoing<'_>) -> &'static str {
        let Some(session) = self.sessions.get(slot as usize) else {
            return "Not delivered because client is closed";
        };
        let denied = record.deny.as_ref();
        if session.is_closed() {
            "Not delivered because client is closed"
        } else if outgoing.publisher == Some(slot) && !session.client.echo {
            "Not delivered because of no echo"
        } else if denied.is_some_and(|deny| deny.denies(outgoing.destination)) {
            "Not delivered because subscription denies this subject"
        } else if record.is_used_up() {
            "Not delivered because auto-unsubscribe exceeded"
        } else if self.options.client.no_fast_producer_stall && self.is_stalling(session) {
            "Not delivered because fast producer not stalled and consumer is slow"
        } else {
            ""
        }
    }

    fn is_stalling(&self, session: &Session) -> bool {
        session.outbound.pending() > self.max_pending / 4 * STALL_QUARTERS
    }

    fn egress(&self, slot: u32, record: &Subscription, error: &'static str) -> TraceKind {
        let session = self.sessions.get(slot as usize);
        let traced = self.message_trace.as_deref().map(|trace| trace.account);
        let is_elsewhere = traced != Some(record.account);
        TraceKind::Egress {
            client: session.map_or(0, |session| session.id.0),
            name: session.map(name_of).unwrap_or_default(),
            account: if is_elsewhere {
                self.account_name(record.account).to_owned()
            } else {
                String::new()
            },
            subscription: record.filter().to_vec(),
            queue: record.queue().unwrap_or_default().to_vec(),
            error,
        }
    }

    /// A traced message goes on into another account: with which headers (`None`: it does not), and
    /// what of the trace waits meanwhile.
    #[cold]
    pub(crate) fn trace_service_import(
        &mut self,
        now: Now,
        (exporter, allows): (AccountId, bool),
        (from, to): (&[u8], &[u8]),
        block: Option<Vec<u8>>,
    ) -> (Option<Vec<u8>>, Suspended) {
        let step = TraceKind::ServiceImport {
            account: self.account_name(exporter).to_owned(),
            from: from.to_vec(),
            to: to.to_vec(),
        };
        self.add_step(now, step);
        let with = |destination: &[u8]| {
            let block = block.as_deref().unwrap_or_default();
            Some(headers::set(block, DESTINATION, destination))
        };
        if allows {
            // Nothing but this server tells of it, so the subject need not lead anywhere.
            let elsewhere = self.service_reply(exporter, false);
            return (with(&elsewhere), Suspended::NOTHING);
        }
        if self.is_trace_only() {
            return (None, Suspended::NOTHING);
        }
        (with(DISABLED), self.suspend_trace())
    }

    /// A traced message is heard in another account. `None`: it is told and not delivered.
    #[cold]
    pub(crate) fn trace_stream_import(
        &mut self,
        now: Now,
        (importer, allows): (AccountId, bool),
        to: &[u8],
        filter: Option<Vec<u8>>,
    ) -> Option<Suspended> {
        let step = TraceKind::StreamExport {
            account: self.account_name(importer).to_owned(),
            to: to.to_vec(),
        };
        self.add_step(now, step);
        if allows {
            if let Some(trace) = self.message_trace.as_deref_mut() {
                trace.foreign_filter = filter;
            }
            return Some(Suspended::NOTHING);
        }
        (!self.is_trace_only()).then(|| self.suspend_trace())
    }

    fn suspend_trace(&mut self) -> Suspended {
        self.is_message_traced = false;
        Suspended(self.message_trace.take())
    }

    /// Goes on with a trace that another account did not want to be part of.
    pub(crate) fn resume_trace(&mut self, suspended: Suspended) {
        if let Some(trace) = suspended.0 {
            self.message_trace = Some(trace);
            self.is_message_traced = true;
        }
    }
}

/// A trace that does not see what happens until it is resumed.
pub(crate) struct Suspended(Option<Box<MessageTrace>>);

impl Suspended {
    pub(crate) const NOTHING: Self = Self(None);
}

/// Whether headers may ask for a trace; cheap, for messages that do not.
pub(crate) fn may_ask_for_trace(block: &[u8]) -> bool {
    memchr::memmem::find(block, b"race").is_some() || memchr::memmem::find(block, b"RACE").is_some()
}

fn name_of(session: &Session) -> String {
    let options = session.client.options.as_deref();
    options.map_or_else(String::new, |options| options.name.clone())
}

fn is_yes(value: &[u8]) -> bool {
    [&b"1"[..], b"true", b"on"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

/// Whether a `traceparent` says that its request is sampled.
fn is_sampled_outside(block: &[u8]) -> bool {
    headers::iter(block)
        .filter(|(name, _)| name.eq_ignore_ascii_case(PARENT))
        .any(|(_, value)| {
            let parts: Vec<&[u8]> = value.trim_ascii().split(|byte| *byte == b'-').collect();
            let [_, _, _, flags] = parts[..] else {
                return false;
            };
            let text = std::str::from_utf8(flags).unwrap_or_default();
            flags.len() == 2 && i8::from_str_radix(text, 16).is_ok_and(|flags| flags & 1 == 1)
        })
}

fn all_headers(block: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers::iter(block) {
        let value = String::from_utf8_lossy(value).trim().to_owned();
        if !name.is_empty() && !value.is_empty() {
            let name = String::from_utf8_lossy(name).into_owned();
            all.entry(name).or_default().push(value);
        }
    }
    all
}
