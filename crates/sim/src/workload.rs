//! What the simulated client does to streams: it draws configurations, publishes, sends batches,
//! deletes, purges, updates, removes, and reads.

use crate::client::header_block;
use crate::model::{Change, Limits, Rollup, Sent};
use crate::node_run::{NodeRun, Request};
use crate::retention::Retention;
use crate::track::{Existence, OpenBatch};
use bytes::Bytes;

/// Subjects of a stream.
const SUBJECTS: u64 = 5;
const SECOND_NS: i64 = 1_000_000_000;
/// An id is sent again only so soon that it is within the window for certain, clock jumps included.
const ID_REUSE_NS: i64 = 20 * SECOND_NS;

impl NodeRun {
    pub(crate) fn send_something(&mut self) {
        let stream = self.random.below(self.plan.streams) as usize;
        match self.streams[stream].existence {
            Existence::Absent => {
                let limits = self.draw_limits();
                return self.create_stream(stream, limits);
            }
            Existence::Creating | Existence::Removing => return,
            Existence::Present => {}
        }
        match self.random.below(100) {
            0..=39 => self.publish_one(stream),
            40..=45 => self.open_batch(stream),
            46..=65 => self.continue_batch(stream),
            66..=69 => self.delete_one(stream),
            70..=72 => self.purge_some(stream),
            73 => self.update_stream(stream),
            74 => self.remove_stream(stream),
            75..=82 => self.read_something(stream),
            _ => self.use_consumer(stream),
        }
    }

    fn draw_limits(&mut self) -> Limits {
        let mut limits = Limits {
            direct: self.random.below(3) > 0,
            description: format!("made {}", self.number()),
            ..Limits::default()
        };
        // What flips find depends on what is drawn: they have seeds of their own.
        let kinds = if self.plan.flips { 15 } else { 21 };
        match self.random.below(kinds) {
            0 => limits.memory = true,
            1 => limits.max_messages = 5 + self.random.below(20),
            2 => limits.max_bytes = 5_000 + self.random.below(20_000),
            3 => limits.max_per_subject = 1 + self.random.below(4),
            4 => {
                limits.max_per_subject = 2 + self.random.below(3);
                limits.max_messages = 5 + self.random.below(10);
            }
            5 => limits.max_age_ns = SECOND_NS * (1 + self.random.below(4).cast_signed()),
            6 => {
                limits.discard_new = true;
                limits.max_messages = 10 + self.random.below(20);
            }
            7 => {
                limits.discard_new = true;
                limits.discard_new_per_subject = true;
                limits.max_per_subject = 1 + self.random.below(5);
            }
            8 => {
                limits.discard_new = true;
                limits.max_bytes = 5_000 + self.random.below(20_000);
            }
            9 | 10 => limits.rollups = true,
            11 => limits.ttl = true,
            12 => {
                limits.memory = true;
                limits.max_messages = 5 + self.random.below(20);
            }
            15..=20 => {
                limits.memory = self.random.below(4) == 0;
                limits.retention = match self.random.below(2) {
                    0 => Retention::WorkQueue,
                    _ => Retention::Interest,
                };
            }
            _ => {}
        }
        if self.plan.flips {
            // What a lost message would have pushed out, and which of those came back, cannot be told.
            limits = Limits {
                memory: limits.memory,
                max_age_ns: limits.max_age_ns,
                ttl: limits.ttl,
                direct: limits.direct,
                description: limits.description,
                ..Limits::default()
            };
        }
        limits
    }

    pub(crate) fn create_stream(&mut self, stream: usize, limits: Limits) {
        let subject = format!("$JS.API.STREAM.CREATE.S{stream}");
        let config = configuration(stream, &limits, !self.plan.flips);
        let track = &mut self.streams[stream];
        track.existence = Existence::Creating;
        track.model.limits = limits.clone();
        self.send(
            &subject,
            &[],
            config.as_bytes(),
            Request::CreateStream { stream, limits },
        );
    }

    fn remove_stream(&mut self, stream: usize) {
        // Its last operations are still on their way, and nobody will say what became of them.
        self.streams[stream].existence = Existence::Removing;
        let subject = format!("$JS.API.STREAM.DELETE.S{stream}");
        self.send(&subject, &[], b"", Request::RemoveStream { stream });
    }

    /// Sends something that changes the stream as one.
    pub(crate) fn operate(&mut self, stream: usize, change: Change, (subject, body): (&str, &str)) {
        let number = self.number();
        // What is published while the server starts may overtake requests, which may then be lost alone.
        let may_be_refused = self.plan.knobs.capacity_bytes > 0 || self.is_starting;
        self.streams[stream].sent(number, change, may_be_refused);
        let what = Request::Operation { stream, number };
        self.send(subject, &[], body.as_bytes(), what);
    }

    fn update_stream(&mut self, stream: usize) {
        if self.streams[stream].is_changing() {
            return;
        }
        let mut limits = self.streams[stream].model.limits.clone();
        limits.description = format!("updated {}", self.number());
        if limits.max_messages > 0 {
            limits.max_messages = 5 + self.random.below(25);
        }
        if limits.max_bytes > 0 {
            limits.max_bytes = 5_000 + self.random.below(20_000);
        }
        if limits.max_per_subject > 0 {
            limits.max_per_subject = 1 + self.random.below(5);
        }
        let config = configuration(stream, &limits, !self.plan.flips);
        let subject = format!("$JS.API.STREAM.UPDATE.S{stream}");
        self.operate(stream, Change::Configure(limits), (&subject, &config));
    }

    pub(crate) fn draw_subject(&mut self, stream: usize) -> String {
        format!("s{stream}.{}", self.random.below(SUBJECTS))
    }

    /// Unlike any other payload of the run.
    fn payload(&mut self) -> Bytes {
        let length = match self.random.below(20) {
            0 => self.random.below(20_000),
            1..=4 => self.random.below(2_000),
            _ => self.random.below(100),
        };
        let mut payload = format!("m{}-", self.number()).into_bytes();
        let start = self.random.next_u64();
        payload.extend((0..length).map(|at| (start.wrapping_mul(at | 1) >> 40) as u8));
        payload.into()
    }

    /// A message for the stream, with the headers that it may have there.
    fn draw_message(
        &mut self,
        stream: usize,
        in_batch: bool,
    ) -> (Sent, Vec<(&'static str, String)>) {
        let subject = self.draw_subject(stream);
        let mut sent = Sent {
            subject,
            payload: self.payload(),
            expires_ns: i64::MAX,
            ..Sent::default()
        };
        let mut headers = Vec::new();
        let limits = self.streams[stream].model.limits.clone();
        let wall_ns = self.world.now.wall_ns;
        if limits.max_age_ns > 0 {
            sent.expires_ns = wall_ns + limits.max_age_ns;
        }
        if limits.rollups && self.random.below(8) == 0 {
            let all = self.random.below(3) == 0;
            sent.rollup = if all { Rollup::All } else { Rollup::Subject };
            let word = if all { "all" } else { "sub" };
            headers.push(("Nats-Rollup", word.to_owned()));
        }
        if limits.ttl && self.random.below(2) == 0 {
            let seconds = 1 + self.random.below(3).cast_signed();
            sent.expires_ns = wall_ns + seconds * SECOND_NS;
            headers.push(("Nats-TTL", format!("{seconds}s")));
        }
        if limits.max_age_ns == 0 && !in_batch && self.random.below(3) == 0 {
            let id = self.draw_id(stream);
            sent.id = Some(id);
            headers.push(("Nats-Msg-Id", format!("id{id}")));
        }
        (sent, headers)
    }

    /// A new message id, or one that was sent a short time ago.
    fn draw_id(&mut self, stream: usize) -> u64 {
        let pick = self.random.below(6) as usize;
        let recent = self.wall_max_ns - ID_REUSE_NS;
        let known = self.streams[stream].ids.iter().rev().nth(pick);
        if let Some((id, sent_ns)) = known
            && *sent_ns > recent
        {
            return *id;
        }
        let id = self.number();
        let wall_ns = self.world.now.wall_ns;
        self.streams[stream].ids.push((id, wall_ns));
        id
    }

    pub(crate) fn publish_one(&mut self, stream: usize) {
        let (mut sent, headers) = self.draw_message(stream, false);
        sent.headers_length = header_block(&headers).len();
        let (subject, payload) = (sent.subject.clone(), sent.payload.clone());
        let number = self.number();
        let change = Change::Publish {
            messages: vec![sent],
            batch: false,
        };
        let may_be_refused = self.may_refuse(stream);
        self.streams[stream].sent(number, change, may_be_refused);
        let what = Request::Operation { stream, number };
        self.send(&subject, &headers, &payload, what);
    }

    fn may_refuse(&self, stream: usize) -> bool {
        self.streams[stream].model.limits.discard_new || self.plan.knobs.capacity_bytes > 0
    }

    fn open_batch(&mut self, stream: usize) {
        let total = match self.random.below(4) {
            0 => 1,
            1 => 1 + self.random.below(30),
            _ => 1 + self.random.below(8),
        };
        let number = self.number();
        self.streams[stream].batches.push(OpenBatch {
            number,
            messages: Vec::new(),
            total: total as usize,
        });
        self.continue_batch(stream);
    }

    /// Sends the next messages of some open batch; the last one commits it.
    fn continue_batch(&mut self, stream: usize) {
        let count = self.streams[stream].batches.len() as u64;
        if count == 0 {
            return;
        }
        let at = self.random.below(count) as usize;
        let number = self.streams[stream].batches[at].number;
        for _ in 0..1 + self.random.below(6) {
            let batches = &self.streams[stream].batches;
            let Some(at) = batches.iter().position(|batch| batch.number == number) else {
                return;
            };
            self.send_batch_message(stream, at);
        }
    }

    fn send_batch_message(&mut self, stream: usize, at: usize) {
        let batch = &self.streams[stream].batches[at];
        let (number, place) = (batch.number, batch.messages.len() + 1);
        let (is_last, is_one) = (place == batch.total, batch.total == 1);
        let mut headers = vec![
            ("Nats-Batch-Id", format!("b{number}")),
            ("Nats-Batch-Sequence", place.to_string()),
        ];
        let (mut sent, more) = self.draw_message(stream, true);
        headers.extend(more);
        let (subject, payload) = (sent.subject.clone(), sent.payload.clone());
        // One in four batches ends with a message that only says so.
        let ends_apart = is_last && !is_one && self.random.below(4) == 0;
        if is_last {
            let word = if ends_apart { "eob" } else { "1" };
            headers.push(("Nats-Batch-Commit", word.to_owned()));
        }
        sent.headers_length = header_block(&headers).len();
        let batch = &mut self.streams[stream].batches[at];
        if !ends_apart {
            batch.messages.push(sent);
        } else if let Some(last) = batch.messages.last_mut() {
            last.headers_length += "Nats-Batch-Commit: 1\r\n".len();
        }
        let mut what = Request::Staged { stream, number };
        if is_last {
            let batch = self.streams[stream].batches.remove(at);
            let change = Change::Publish {
                messages: batch.messages,
                batch: true,
            };
            // Its time may have run out.
            self.streams[stream].sent(number, change, true);
            what = Request::Operation { stream, number };
        }
        self.send(&subject, &headers, &payload, what);
    }

    fn delete_one(&mut self, stream: usize) {
        let pick = self.random.next_u64() >> 8;
        let Some(sequence) = self.streams[stream].some_sequence(pick) else {
            return;
        };
        let no_erase = self.random.below(2) == 0;
        let subject = format!("$JS.API.STREAM.MSG.DELETE.S{stream}");
        let body = format!(r#"{{"seq":{sequence},"no_erase":{no_erase}}}"#);
        self.operate(stream, Change::Delete { sequence }, (&subject, &body));
    }

    fn purge_some(&mut self, stream: usize) {
        let filter = match self.random.below(3) {
            0 => None,
            1 => Some(format!("s{stream}.>")),
            _ => Some(self.draw_subject(stream)),
        };
        let last = self.streams[stream].model.last;
        // Which ones are kept depends on what is gone already.
        let limits = &self.streams[stream].model.limits;
        let keeps = !limits.ttl && limits.retention == Retention::Limits;
        match self.random.below(3) {
            0 => self.purge(stream, filter, 0, 0),
            1 if keeps => {
                let keep = 1 + self.random.below(10);
                self.purge(stream, filter, 0, keep);
            }
            _ => {
                let below = 2 + self.random.below(last);
                self.purge(stream, filter, below, 0);
            }
        }
    }

    pub(crate) fn purge(&mut self, stream: usize, filter: Option<String>, below: u64, keep: u64) {
        let mut body = serde_json::Map::new();
        if let Some(filter) = &filter {
            body.insert("filter".to_owned(), filter.clone().into());
        }
        if below > 0 {
            body.insert("seq".to_owned(), below.into());
        }
        if keep > 0 {
            body.insert("keep".to_owned(), keep.into());
        }
        let body = serde_json::Value::from(body).to_string();
        let subject = format!("$JS.API.STREAM.PURGE.S{stream}");
        let change = Change::Purge {
            filter,
            below,
            keep,
        };
        self.operate(stream, change, (&subject, &body));
    }

    /// Reads that nobody waits for: their answers are checked when they come.
    fn read_something(&mut self, stream: usize) {
        let pick = self.random.next_u64() >> 8;
        let last = self.streams[stream].model.last;
        let direct = self.streams[stream].model.limits.direct;
        let sequence = match self.streams[stream].some_sequence(pick) {
            Some(sequence) if self.random.below(4) > 0 => sequence,
            _ => 1 + self.random.below(last + 2),
        };
        match self.random.below(5) {
            0 => {
                let subject = format!("$JS.API.STREAM.INFO.S{stream}");
                self.send(&subject, &[], b"", Request::Numbers { stream });
            }
            1 if direct => self.read_row(stream, sequence),
            2 => {
                let subject = self.draw_subject(stream);
                let body = format!(r#"{{"last_by_subj":"{subject}"}}"#);
                let call = read_call(stream, direct);
                let known = self.streams[stream].last_of(&subject);
                let what = Request::LastOf {
                    stream,
                    subject,
                    known,
                };
                self.send(&call, &[], body.as_bytes(), what);
            }
            _ => {
                let call = read_call(stream, direct && self.random.below(2) == 0);
                let body = format!(r#"{{"seq":{sequence}}}"#);
                let what = Request::Get { stream, sequence };
                self.send(&call, &[], body.as_bytes(), what);
            }
        }
    }

    fn read_row(&mut self, stream: usize, start: u64) {
        let most = 1 + self.random.below(40) as usize;
        let filter = match self.random.below(2) {
            0 => format!("s{stream}.>"),
            _ => self.draw_subject(stream),
        };
        let body = format!(r#"{{"seq":{start},"batch":{most},"next_by_subj":"{filter}"}}"#);
        let what = Request::Row {
            stream,
            start,
            most,
            filter,
            got: Vec::new(),
            version: self.streams[stream].version,
        };
        self.send(&read_call(stream, true), &[], body.as_bytes(), what);
    }
}

fn read_call(stream: usize, direct: bool) -> String {
    if direct {
        format!("$JS.API.DIRECT.GET.S{stream}")
    } else {
        format!("$JS.API.STREAM.MSG.GET.S{stream}")
    }
}

/// A stream's configuration as a request has it.
fn configuration(stream: usize, limits: &Limits, may_compress: bool) -> String {
    // Changes with updates; a flipped bit costs a pack, which is more than the oracle takes.
    let compress = may_compress && limits.description.len() % 2 == 1;
    let or_none = |limit: u64| {
        if limit == 0 { -1 } else { limit.cast_signed() }
    };
    serde_json::json!({
        "name": format!("S{stream}"),
        "subjects": [format!("s{stream}.>")],
        "retention": limits.retention.name(),
        "storage": if limits.memory { "memory" } else { "file" },
        "description": limits.description,
        "compression": if compress { "s2" } else { "none" },
        "allow_atomic": true,
        "allow_direct": limits.direct,
        "allow_rollup_hdrs": limits.rollups,
        "allow_msg_ttl": limits.ttl,
        "max_msgs": or_none(limits.max_messages),
        "max_bytes": or_none(limits.max_bytes),
        "max_msgs_per_subject": or_none(limits.max_per_subject),
        "max_age": limits.max_age_ns,
        "discard": if limits.discard_new { "new" } else { "old" },
        "discard_new_per_subject": limits.discard_new_per_subject,
    })
    .to_string()
}
