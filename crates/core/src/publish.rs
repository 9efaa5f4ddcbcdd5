//! The publish hot path: from one message to the outbound queues of all who receive it.
//!
//! No allocation per message for small payloads: the match result comes from the publisher's
//! cache, the bytes are appended once per recipient. Parsing, flushing and closing are elsewhere.

use bytes::Bytes;
use millrace_clock::Now;

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::chunks::ChunkPool;
use crate::effects::{Delivered, Delivery};
use crate::ids::{AccountId, EndpointId};
use crate::imports::Chain;
use crate::limits::{
    DRAIN_ABOVE_BYTES, SHARED_PAYLOAD_MIN, SHARED_SLICE_MIN, STALL_ABOVE_MARK_NS, STALL_FULL_NS,
    STALL_MAX_NS, STALL_QUARTERS,
};
use crate::match_cache::MatchCache;
use crate::message_trace::{TraceStart, may_ask_for_trace};
use crate::reserved;
use crate::session::Session;
use crate::subscription::{Owner, Subscription};

/// A message on its way in, borrowed from the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    /// Empty for none.
    pub(crate) reply: &'a [u8],
    /// Whole block through its blank line; empty for none.
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// The payload with the line end behind it, if that is how it lies in memory; else empty.
    pub(crate) body: &'a [u8],
    /// Sizes, headers and payload as a receiver is sent them, if they lie so in memory; else empty.
    pub(crate) tail: &'a [u8],
    /// What all of the above lie in.
    pub(crate) source: Source<'a>,
}

/// The memory that a message lies in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Somebody's who needs it back.
    Borrowed,
    /// The message's own: slices may be kept for as long as anybody likes.
    Own(&'a Bytes),
    /// A block with other messages in it: slices may be kept only until they are written.
    Block(&'a Bytes),
}

impl Message<'_> {
    fn size(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// Whether recipients share the payload instead of each getting a copy.
    const fn is_shared(&self) -> bool {
        match self.source {
            Source::Block(_) => self.payload.len() >= SHARED_SLICE_MIN,
            Source::Own(_) | Source::Borrowed => self.payload.len() > SHARED_PAYLOAD_MIN,
        }
    }

    /// The payload, with its line end where that follows, for a short time.
    fn lent(&self) -> Bytes {
        let body = if self.body.is_empty() {
            self.payload
        } else {
            self.body
        };
        match self.source {
            Source::Own(buffer) | Source::Block(buffer) => buffer.slice_ref(body),
            Source::Borrowed => Bytes::copy_from_slice(body),
        }
    }

    /// The payload for as long as the receiver likes.
    fn kept(&self) -> Bytes {
        match self.source {
            Source::Own(buffer) => buffer.slice_ref(self.payload),
            Source::Block(_) | Source::Borrowed => Bytes::copy_from_slice(self.payload),
        }
    }
}

/// `[hdrlen ]size CRLF`: how every control line of a message ends.
#[derive(Clone, Copy)]
struct Sizes {
    text: [u8; SIZES_MAX],
    length: usize,
}

/// Two numbers of up to 20 digits, a blank and a line end.
const SIZES_MAX: usize = 48;

impl Sizes {
    fn of(message: &Message<'_>, with_headers: bool) -> Self {
        let mut sizes = Self {
            text: [0; SIZES_MAX],
            length: 0,
        };
        let mut number = itoa::Buffer::new();
        if with_headers {
            sizes.add(number.format(message.headers.len()).as_bytes());
            sizes.add(b" ");
            sizes.add(number.format(message.size()).as_bytes());
        } else {
            sizes.add(number.format(message.payload.len()).as_bytes());
        }
        sizes.add(b"\r\n");
        sizes
    }

    fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }

    fn add(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(part);
            self.length = end;
        }
    }
}

/// A message on its way out, with the pieces that are the same for all recipients.
pub(crate) struct Outgoing<'a> {
    pub(crate) message: &'a Message<'a>,
    /// The subject that recipients are found by; usually the one they see.
    pub(crate) destination: &'a [u8],
    pub(crate) publisher: Option<u32>,
    /// The imports it came through; `None` in the account it was published in.
    pub(crate) chain: Option<&'a Chain<'a>>,
    /// The end of a MSG line, made on first use.
    plain_sizes: Option<Sizes>,
    /// The end of an HMSG line, made on first use.
    header_sizes: Option<Sizes>,
    /// The payload as its owner gave it, to be kept by anybody.
    given: Option<Bytes>,
    /// A big payload as recipients share it, made on first use.
    lent: Option<Bytes>,
    pub(crate) delivered: Delivered,
    /// Headers and payloads queued for clients, summed up.
    pub(crate) delivered_bytes: u64,
}

/// Whether one receiver took a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Taken,
    Refused,
}

impl Broker {
    /// A message from the client at `slot`: all checks, delivery, and the answer to the publisher.
    pub(crate) fn publish_from_client(&mut self, now: Now, slot: u32, message: &Message<'_>) {
        if !message.headers.is_empty() && may_ask_for_trace(message.headers) {
            self.publish_with_trace(now, slot, message);
        } else {
            self.publish_received(now, slot, message);
        }
    }

    /// A message whose headers may ask for a trace.
    #[cold]
    fn publish_with_trace(&mut self, now: Now, slot: u32, message: &Message<'_>) {
        match self.begin_trace(now, slot, message) {
            TraceStart::Untraced => self.publish_received(now, slot, message),
            TraceStart::Dropped => {}
            TraceStart::Changed(headers) => {
                let message = Message {
                    headers: &headers,
                    tail: &[],
                    ..*message
                };
                self.publish_received(now, slot, &message);
            }
            TraceStart::Traced => {
                self.publish_received(now, slot, message);
                self.end_trace();
            }
        }
    }

    #[inline]
    fn publish_received(&mut self, now: Now, slot: u32, message: &Message<'_>) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.note_input(now);
        let Some(account_id) = session.account else {
            return;
        };
        let size = message.size() as u64;
        session.counters.in_msgs += 1;
        session.counters.in_bytes += size;
        self.counters.in_msgs += 1;
        self.counters.in_bytes += size;
        let is_pedantic = session.client.pedantic;
        let mut cache = session.client.cache.take().unwrap_or_default();
        if is_pedantic && !millrace_subject::is_valid_literal(message.subject) {
            self.send_error(slot, b"Invalid Publish Subject");
        }
        if self.has_mappings
            && let Some(subject) = self.map_published(now, slot, account_id, message.subject)
        {
            let message = Message {
                subject: &subject,
                ..*message
            };
            self.publish_checked(now, slot, account_id, &message, &mut cache);
        } else {
            self.publish_checked(now, slot, account_id, message, &mut cache);
        }
        if let Some(session) = self.sessions.get_mut(slot as usize)
            && !session.is_closed()
        {
            session.client.cache = Some(cache);
        }
    }

    fn publish_checked(
        &mut self,
        now: Now,
        slot: u32,
        account_id: AccountId,
        message: &Message<'_>,
        cache: &mut MatchCache,
    ) {
        let (Some(session), Some(account)) = (
            self.sessions.get(slot as usize),
            self.accounts.get_mut(account_id),
        ) else {
            return;
        };
        account.counters.received_msgs += 1;
        account.counters.received_bytes += message.size() as u64;
        let client = &session.client;
        let may_publish = || {
            !reserved::is_refused_subject(message.subject, account_id)
                && client
                    .permissions
                    .as_deref()
                    .is_none_or(|rules| rules.can_publish(message.subject))
        };
        let is_cached = !self.options.client.disable_match_cache;
        let entry = cache.lookup(&account.interest, message.subject, is_cached, may_publish);
        let is_verbose = client.verbose;
        if !entry.allowed && !self.use_permit(now, slot, account_id, message.subject) {
            self.publish_violation(slot, message.subject);
            return;
        }
        if reserved::is_refused_reply(message.reply) {
            self.reply_violation(slot, message.reply);
            return;
        }
        if is_verbose {
            self.send_ok(slot);
        }
        let mut outgoing = Outgoing::new(message, Some(slot));
        for key in &entry.plain {
            self.deliver(now, *key, &mut outgoing);
        }
        for members in &entry.queues {
            self.deliver_to_group(now, members, &mut outgoing);
        }
        self.count_deliveries(account_id, &outgoing);
        if !outgoing.delivered.any() && !message.reply.is_empty() {
            self.answer_no_responders(slot, account_id, message);
        }
    }

    /// Publishes on behalf of the server itself. Reaches clients and bound receivers alike.
    /// `headers` is a whole block through its blank line, or empty; `reply` may be empty.
    pub fn publish(
        &mut self,
        now: Now,
        account: AccountId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> Delivered {
        let message = Message {
            subject,
            reply,
            headers,
            payload,
            body: &[],
            tail: &[],
            source: Source::Borrowed,
        };
        self.publish_outgoing(now, account, Outgoing::new(&message, None))
    }

    /// As [`Self::publish`], but routed by `destination` while recipients are shown `subject`: a
    /// consumer's delivery reaches an inbox and carries the subject it was stored under.
    #[allow(clippy::too_many_arguments)] // the parts of a message, each borrowed
    pub fn publish_as(
        &mut self,
        now: Now,
        account: AccountId,
        destination: &[u8],
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> Delivered {
        let message = Message {
            subject,
            reply,
            headers,
            payload,
            body: &[],
            tail: &[],
            // Stored messages may lie in a block that was read for many of them.
            source: Source::Block(payload),
        };
        let mut outgoing = Outgoing::new(&message, None);
        outgoing.destination = destination;
        self.publish_outgoing(now, account, outgoing)
    }

    /// As [`Self::publish`], sharing the payload instead of copying it when it is big.
    pub fn publish_shared(
        &mut self,
        now: Now,
        account: AccountId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> Delivered {
        let message = Message {
            subject,
            reply,
            headers,
            payload,
            body: &[],
            tail: &[],
            source: Source::Borrowed,
        };
        let mut outgoing = Outgoing::new(&message, None);
        if payload.len() > SHARED_PAYLOAD_MIN {
            outgoing.given = Some(payload.clone());
        }
        self.publish_outgoing(now, account, outgoing)
    }

    fn publish_outgoing(
        &mut self,
        now: Now,
        account_id: AccountId,
        mut outgoing: Outgoing<'_>,
    ) -> Delivered {
        let mut cache = std::mem::take(&mut self.internal_cache);
        if self.internal_cache_account != account_id {
            cache = MatchCache::default();
            self.internal_cache_account = account_id;
        }
        if let Some(account) = self.accounts.get(account_id) {
            let is_cached = !self.options.client.disable_match_cache;
            let destination = outgoing.destination;
            let entry = cache.lookup(&account.interest, destination, is_cached, || true);
            for key in &entry.plain {
                self.deliver(now, *key, &mut outgoing);
            }
            for members in &entry.queues {
                self.deliver_to_group(now, members, &mut outgoing);
            }
        }
        self.internal_cache = cache;
        self.count_deliveries(account_id, &outgoing);
        outgoing.delivered
    }

    /// Delivers in another account than the one it was published in.
    pub(crate) fn publish_in(&mut self, now: Now, id: AccountId, outgoing: &mut Outgoing<'_>) {
        let is_cached = !self.options.client.disable_match_cache;
        let Some(account) = self.accounts.get_mut(id) else {
            return;
        };
        let mut cache = std::mem::take(&mut account.imported_cache);
        let entry = cache.lookup(&account.interest, outgoing.destination, is_cached, || true);
        for key in &entry.plain {
            self.deliver(now, *key, outgoing);
        }
        for members in &entry.queues {
            self.deliver_to_group(now, members, outgoing);
        }
        if let Some(account) = self.accounts.get_mut(id) {
            account.imported_cache = cache;
        }
        self.count_deliveries(id, outgoing);
    }

    /// One member gets the message: a random first choice, then the next ones until one takes it.
    fn deliver_to_group(
        &mut self,
        now: Now,
        members: &[SubscriptionKey],
        outgoing: &mut Outgoing<'_>,
    ) {
        let first = self.random.below(members.len() as u64) as usize;
        let (before, after) = members.split_at(first);
        for key in after.iter().chain(before) {
            if self.deliver(now, *key, outgoing) == Outcome::Taken {
                return;
            }
        }
    }

    /// Decides whether one receiver takes the message, and queues it there.
    pub(crate) fn deliver(
        &mut self,
        now: Now,
        key: SubscriptionKey,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        if self.is_message_traced {
            return self.deliver_traced(now, key, outgoing);
        }
        self.deliver_now(now, key, outgoing)
    }

    #[inline]
    pub(crate) fn deliver_now(
        &mut self,
        now: Now,
        key: SubscriptionKey,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        let Some(record) = self.subscriptions.get_mut(key) else {
            return Outcome::Refused;
        };
        let slot = match record.owner {
            Owner::Session(slot) => slot,
            Owner::Endpoint(endpoint) => {
                let account = record.account;
                record.delivered += 1;
                self.deliver_inside(endpoint, account, outgoing);
                return Outcome::Taken;
            }
            owner => {
                let account = record.account;
                record.delivered += 1;
                return self.deliver_imported(now, owner, account, outgoing);
            }
        };
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return Outcome::Refused;
        };
        if session.is_closed() || (outgoing.publisher == Some(slot) && !session.client.echo) {
            return Outcome::Refused;
        }
        if record
            .deny
            .as_ref()
            .is_some_and(|deny| deny.denies(outgoing.destination))
        {
            return Outcome::Refused;
        }
        if record.is_used_up() {
            self.remove_subscription(key);
            return Outcome::Refused;
        }
        let pending = session.outbound.pending();
        if pending > self.max_pending / 4 * STALL_QUARTERS && outgoing.publisher.is_some() {
            if self.options.client.no_fast_producer_stall {
                return Outcome::Refused;
            }
            let is_full = pending >= self.max_pending;
            self.batch_stall_ns += if is_full {
                STALL_FULL_NS
            } else {
                STALL_ABOVE_MARK_NS
            };
            self.batch_stalls += u64::from(self.batch_stall_ns <= STALL_MAX_NS);
        }
        if session.is_blocked && pending > DRAIN_ABOVE_BYTES {
            self.batch_awaits_drain |= !self.options.client.no_fast_producer_stall;
        }
        outgoing.hand_over(now, record, session, &mut self.chunks);
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(session.id);
        }
        let is_over = session.outbound.pending() > self.max_pending;
        let is_permitted = session.client.permissions.is_some();
        if is_over || is_permitted || record.is_used_up() || self.is_tracing {
            self.follow_up(now, (slot, key), outgoing.message, is_over);
        }
        Outcome::Taken
    }

    /// What seldom follows from a message that the receiver at `slot` took.
    #[cold]
    fn follow_up(
        &mut self,
        now: Now,
        (slot, key): (u32, SubscriptionKey),
        message: &Message<'_>,
        is_over: bool,
    ) {
        if self.is_tracing {
            self.trace_delivery(key, message);
        }
        if !message.reply.is_empty() {
            self.grant_permit(now, slot, message.reply);
        }
        if self
            .subscriptions
            .get(key)
            .is_some_and(Subscription::is_used_up)
        {
            self.remove_subscription(key);
        }
        if is_over {
            self.cut_slow_consumer(now, slot);
        }
    }

    /// Counts what all clients together got of one message.
    fn count_deliveries(&mut self, account_id: AccountId, outgoing: &Outgoing<'_>) {
        let (count, bytes) = (
            u64::from(outgoing.delivered.clients),
            outgoing.delivered_bytes,
        );
        self.counters.out_msgs += count;
        self.counters.out_bytes += bytes;
        if let Some(account) = self.accounts.get_mut(account_id) {
            account.counters.sent_msgs += count;
            account.counters.sent_bytes += bytes;
        }
    }

    fn deliver_inside(
        &mut self,
        endpoint: EndpointId,
        account: AccountId,
        outgoing: &mut Outgoing<'_>,
    ) {
        let publisher = outgoing.publisher;
        let publisher = publisher.and_then(|slot| Some(self.sessions.get(slot as usize)?.id));
        let message = outgoing.message;
        let big = (message.payload.len() > SHARED_PAYLOAD_MIN)
            .then(|| outgoing.given.clone().unwrap_or_else(|| message.kept()));
        let copied = if big.is_some() { &[] } else { message.payload };
        // Receivers inside see what the publisher wrote.
        let headers = outgoing
            .chain
            .map_or(message.headers, |chain| chain.headers);
        let (subject, reply) = (message.subject, message.reply);
        let mut all = self.inside.copy([subject, reply, headers, copied]);
        self.deliveries.push(Delivery {
            endpoint,
            account,
            subject: all.split_to(subject.len()),
            reply: all.split_to(reply.len()),
            headers: all.split_to(headers.len()),
            payload: big.unwrap_or(all),
            publisher,
        });
        outgoing.delivered.endpoints += 1;
    }

    /// A 503 to a publisher that asked for it and listens on the reply with a plain subscription.
    fn answer_no_responders(&mut self, slot: u32, account_id: AccountId, message: &Message<'_>) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        if !session.client.no_responders || session.is_closed() {
            return;
        }
        let Some(account) = self.accounts.get(account_id) else {
            return;
        };
        let mut matched = std::mem::take(&mut self.match_scratch);
        account.interest.matches(message.reply, &mut matched);
        let own = matched.plain.iter().find_map(|key| {
            let record = self.subscriptions.get(*key)?;
            (record.owner == Owner::Session(slot)).then_some(record)
        });
        if let Some(record) = own {
            let start = b"NATS/1.0 503\r\nNats-Subject: ";
            let mut size = itoa::Buffer::new();
            let size = size
                .format(start.len() + message.subject.len() + 4)
                .as_bytes();
            let out = &mut session.outbound;
            for part in [
                b"HMSG ",
                message.reply,
                b" ",
                record.sid(),
                b" ",
                size,
                b" ",
                size,
            ] {
                out.push(part, &mut self.chunks);
            }
            for part in [b"\r\n", &start[..], message.subject, b"\r\n\r\n\r\n"] {
                out.push(part, &mut self.chunks);
            }
            self.mark_dirty(slot);
        }
        self.match_scratch = matched;
    }
}

impl<'a> Outgoing<'a> {
    fn new(message: &'a Message<'a>, publisher: Option<u32>) -> Self {
        Self {
            message,
            destination: message.subject,
            publisher,
            chain: None,
            plain_sizes: None,
            header_sizes: None,
            given: None,
            lent: None,
            delivered: Delivered::default(),
            delivered_bytes: 0,
        }
    }

    /// The same message on its way in another account, under other names.
    pub(crate) fn onward<'b>(
        &self,
        message: &'b Message<'b>,
        destination: &'b [u8],
        chain: Option<&'b Chain<'b>>,
    ) -> Outgoing<'b> {
        Outgoing {
            destination,
            chain,
            given: self.given.clone(),
            ..Outgoing::new(message, self.publisher)
        }
    }

    /// Counts what was delivered under other names.
    pub(crate) fn count(&mut self, delivered: Delivered, bytes: u64) {
        self.delivered.clients += delivered.clients;
        self.delivered.endpoints += delivered.endpoints;
        self.delivered_bytes += bytes;
    }

    /// The receiver takes the message: its bytes are queued, and it is counted.
    #[inline]
    fn hand_over(
        &mut self,
        now: Now,
        record: &mut Subscription,
        session: &mut Session,
        chunks: &mut ChunkPool,
    ) {
        record.delivered += 1;
        let message = self.message;
        let with_headers = session.client.headers && !message.headers.is_empty();
        let is_whole = with_headers || message.headers.is_empty();
        if is_whole && !message.tail.is_empty() && !message.is_shared() {
            // What the publisher sent, but for the verb and the sid.
            let verb: &[u8] = if with_headers { b"HMSG " } else { b"MSG " };
            let (subject, sid, out) = (message.subject, record.spaced_sid(), &mut session.outbound);
            if message.reply.is_empty() {
                out.push_parts([verb, subject, sid, message.tail], chunks);
            } else {
                let parts = [verb, subject, sid, message.reply, b" ", message.tail];
                out.push_parts(parts, chunks);
            }
        } else {
            self.append_to(session, record.spaced_sid(), with_headers, chunks);
        }
        let headers = if with_headers { message.headers } else { &[] };
        let size = (headers.len() + message.payload.len()) as u64;
        session.last_activity = now;
        session.counters.out_msgs += 1;
        session.counters.out_bytes += size;
        self.delivered.clients += 1;
        self.delivered_bytes += size;
    }

    /// Appends a message of which not all lies in memory as the client at `session` is sent it.
    fn append_to(
        &mut self,
        session: &mut Session,
        spaced_sid: &[u8],
        with_headers: bool,
        chunks: &mut ChunkPool,
    ) {
        let message = self.message;
        let (verb, headers, sizes): (&[u8], _, _) = if with_headers {
            (b"HMSG ", message.headers, &mut self.header_sizes)
        } else {
            (b"MSG ", &[][..], &mut self.plain_sizes)
        };
        let sizes = sizes.get_or_insert_with(|| Sizes::of(message, with_headers));
        let sizes = sizes.text();
        let is_shared = message.is_shared();
        let (body, line_end): (&[u8], &[u8]) = match (is_shared, message.body.is_empty()) {
            (true, _) => (b"", b""),
            (false, true) => (message.payload, b"\r\n"),
            (false, false) => (message.body, b""),
        };
        let out = &mut session.outbound;
        let (subject, reply) = (message.subject, message.reply);
        if !reply.is_empty() || with_headers || !line_end.is_empty() {
            let blank: &[u8] = if reply.is_empty() { b"" } else { b" " };
            let start = [verb, subject, spaced_sid, reply, blank, sizes];
            let [p1, p2, p3, p4, p5, p6] = start;
            out.push_parts([p1, p2, p3, p4, p5, p6, headers, body, line_end], chunks);
        } else {
            out.push_parts([verb, subject, spaced_sid, sizes, body], chunks);
        }
        if is_shared {
            let given = self.given.as_ref();
            let shared = self
                .lent
                .get_or_insert_with(|| given.cloned().unwrap_or_else(|| message.lent()));
            out.push_shared(shared.clone());
            if given.is_some() || message.body.is_empty() {
                out.push(b"\r\n", chunks);
            }
        }
    }
}
