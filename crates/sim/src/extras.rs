//! A stream beside those of the model in which things happen by themselves: copies, schedules,
//! delete markers, what is published again. What must have become of it is looked at when the run
//! ends; power cuts and kills come in between.

use crate::client::Received;
use crate::node_run::{NodeRun, Request};
use millrace_clock::{Random, rfc3339};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds in which all that is on its way must come, and the time that passes in each.
const ROUNDS_MAX: u32 = 400;
const ROUND_NS: u64 = 500_000_000;
const SECOND_NS: i64 = 1_000_000_000;
/// Schedules are due so soon, and may be late only in the time of a wall clock that is set back.
const SCHEDULE_SECONDS_MAX: u64 = 6;
/// Published when the run ends, on a server that is not disturbed any more.
const LAST_PUBLISHES: u32 = 4;
/// Where messages are published again.
pub(crate) const AGAIN: &str = "again.";

/// What happens by itself in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extra {
    #[default]
    None,
    /// A mirror, and a stream with a source, of the same origin.
    Copies,
    Schedules,
    Markers,
    Republish,
}

impl Extra {
    /// What a seed has.
    #[must_use]
    pub const fn of_seed(seed: u64) -> Self {
        match (seed / 6) % 5 {
            1 => Self::Copies,
            2 => Self::Schedules,
            3 => Self::Markers,
            4 => Self::Republish,
            _ => Self::None,
        }
    }

    /// The streams that it needs, in the order in which they are made: names and configurations.
    const fn streams(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::None => &[],
            Self::Copies => &[
                ("X", r#"{"name":"X","subjects":["x.>"]}"#),
                ("M", r#"{"name":"M","mirror":{"name":"X"}}"#),
                ("A", r#"{"name":"A","sources":[{"name":"X"}]}"#),
            ],
            Self::Schedules => &[(
                "X",
                r#"{"name":"X","subjects":["x.>"],"allow_msg_schedules":true}"#,
            )],
            Self::Markers => &[(
                "X",
                r#"{"name":"X","subjects":["x.>"],"max_age":2000000000,"subject_delete_marker_ttl":3000000000,"allow_rollup_hdrs":true,"allow_msg_ttl":true}"#,
            )],
            Self::Republish => &[(
                "X",
                r#"{"name":"X","subjects":["x.>"],"republish":{"src":">","dest":"again.>"}}"#,
            )],
        }
    }
}

/// A request about these streams.
#[derive(Clone, Debug)]
pub(crate) enum ExtraRequest {
    Create(&'static str),
    Publish(String),
}

/// What is known of them.
#[derive(Debug)]
pub(crate) struct Extras {
    kind: Extra,
    random: Random,
    existing: BTreeSet<&'static str>,
    sent: u64,
    /// Payloads by sequence.
    acknowledged: BTreeMap<u64, String>,
    /// When schedules are due, by payload.
    due: BTreeMap<String, i64>,
    /// Payloads by sequence.
    heard: BTreeMap<u64, String>,
}

impl Extras {
    pub(crate) fn new(kind: Extra, random: Random) -> Self {
        Self {
            kind,
            random,
            existing: BTreeSet::new(),
            sent: 0,
            acknowledged: BTreeMap::new(),
            due: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    fn missing(&self) -> Option<(&'static str, &'static str)> {
        let all = self.kind.streams().iter().copied();
        all.into_iter()
            .find(|(name, _)| !self.existing.contains(name))
    }
}

/// A message as it is stored.
#[derive(Clone, Debug)]
struct Kept {
    subject: String,
    headers: String,
    payload: String,
    time_ns: i64,
}

impl Kept {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.split("\r\n");
        lines
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

type Contents = BTreeMap<u64, Kept>;

impl NodeRun {
    /// The client does something with them, or nothing.
    pub(crate) fn use_extras(&mut self) {
        if let Some((name, config)) = self.extras.missing() {
            if self.extras.random.below(3) == 0 {
                self.create_extra(name, config);
            }
        } else if self.extras.kind != Extra::None && self.extras.random.below(2) == 0 {
            self.publish_extra();
        }
    }

    fn create_extra(&mut self, name: &'static str, config: &'static str) {
        let call = format!("$JS.API.STREAM.CREATE.{name}");
        let what = Request::Extra(ExtraRequest::Create(name));
        self.send(&call, &[], config.as_bytes(), what);
    }

    fn publish_extra(&mut self) {
        self.extras.sent += 1;
        let number = self.extras.sent;
        let payload = format!("x{number}");
        let (mut subject, mut headers) = (format!("x.{}", number % 4), Vec::new());
        if self.extras.kind == Extra::Schedules {
            let seconds = 1 + self.extras.random.below(SCHEDULE_SECONDS_MAX).cast_signed();
            let due_ns = (self.world.now.wall_ns / SECOND_NS + seconds) * SECOND_NS;
            self.extras.due.insert(payload.clone(), due_ns);
            subject = format!("x.plan.{number}");
            headers.push(("Nats-Schedule", format!("@at {}", rfc3339::format(due_ns))));
            headers.push(("Nats-Schedule-Target", format!("x.done.{number}")));
        }
        let what = Request::Extra(ExtraRequest::Publish(payload.clone()));
        self.send(&subject, &headers, payload.as_bytes(), what);
    }

    /// An answer to one of these requests.
    pub(crate) fn extra_answered(
        &mut self,
        request: ExtraRequest,
        message: &Received,
        json: &Value,
    ) -> Result<(), String> {
        if message.is_no_responders() || json.get("error").is_some() {
            return Ok(());
        }
        match request {
            ExtraRequest::Create(name) => {
                self.extras.existing.insert(name);
            }
            ExtraRequest::Publish(payload) => {
                let Some(sequence) = json["seq"].as_u64() else {
                    return Err(format!("X: no acknowledgement: {json}"));
                };
                let other = self.extras.acknowledged.insert(sequence, payload.clone());
                if let Some(other) = other {
                    return Err(format!("X: {payload} and {other} at sequence {sequence}"));
                }
            }
        }
        Ok(())
    }

    /// A message that was published again.
    pub(crate) fn take_again(&mut self, message: &Received) -> Result<(), String> {
        let sequence = message
            .header("Nats-Sequence")
            .and_then(|it| it.parse().ok());
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        let (Some(sequence), Some("X")) = (sequence, message.header("Nats-Stream")) else {
            return Err(format!("{payload} is published again without its place"));
        };
        let other = self.extras.heard.insert(sequence, payload.clone());
        match other.filter(|other| *other != payload) {
            Some(other) => Err(format!("X: {payload} and {other} were heard at {sequence}")),
            None => Ok(()),
        }
    }

    /// At the end, on a healthy disk: all that had to happen by itself has happened, once.
    pub(crate) fn check_extras(&mut self) -> Result<(), String> {
        if self.extras.kind == Extra::None {
            return Ok(());
        }
        while let Some((name, config)) = self.extras.missing() {
            self.create_extra(name, config);
            self.settle()?;
            if self.extras.missing().is_some_and(|(next, _)| next == name) {
                return Err(format!("{name} cannot be made"));
            }
        }
        let before = self.extras.acknowledged.len() as u64;
        for _ in 0..LAST_PUBLISHES {
            self.publish_extra();
            self.settle()?;
        }
        let acknowledged = self.extras.acknowledged.len() as u64;
        if acknowledged < before + u64::from(LAST_PUBLISHES) {
            return Err("X takes nothing".to_owned());
        }
        match self.extras.kind {
            Extra::None => Ok(()),
            Extra::Copies => self.check_copies(),
            Extra::Schedules => self.check_schedules(),
            Extra::Markers => self.check_markers(),
            Extra::Republish => self.check_republished(),
        }
    }

    /// All messages of a stream.
    fn contents(&mut self, stream: &str) -> Result<Contents, String> {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        let info: Value = serde_json::from_slice(&info.payload).unwrap_or_default();
        let state = |name: &str| info["state"][name].as_u64().unwrap_or(0);
        let mut contents = Contents::new();
        if state("messages") == 0 {
            return Ok(contents);
        }
        for sequence in state("first_seq")..=state("last_seq") {
            let call = format!("$JS.API.STREAM.MSG.GET.{stream}");
            let answer = self.ask(&call, &format!(r#"{{"seq":{sequence}}}"#))?;
            let json: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            let message = &json["message"];
            let bytes = |name: &str| {
                let text = message[name].as_str().unwrap_or("");
                let bytes = data_encoding::BASE64.decode(text.as_bytes());
                String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
            };
            let Some(subject) = message["subject"].as_str() else {
                continue;
            };
            let time = rfc3339::parse(message["time"].as_str().unwrap_or(""));
            let kept = Kept {
                subject: subject.to_owned(),
                headers: bytes("hdrs"),
                payload: bytes("data"),
                time_ns: time.ok().flatten().unwrap_or(0),
            };
            contents.insert(sequence, kept);
        }
        Ok(contents)
    }

    /// Waits until a stream is as it should be; the text is what is still wrong.
    fn wait_for_stream(
        &mut self,
        stream: &str,
        mut wrong: impl FnMut(&Contents) -> Result<Option<String>, String>,
    ) -> Result<(), String> {
        let mut last = None;
        for _ in 0..ROUNDS_MAX {
            self.settle()?;
            let contents = self.contents(stream)?;
            last = wrong(&contents)?;
            if last.is_none() {
                return Ok(());
            }
            self.sleep()?;
            self.world.pass(ROUND_NS);
        }
        Err(format!("{stream}: {}", last.unwrap_or_default()))
    }

    /// The origin, which loses nothing: all that was acknowledged is where it was put.
    fn origin(&mut self) -> Result<Contents, String> {
        let origin = self.contents("X")?;
        for (sequence, payload) in &self.extras.acknowledged {
            if origin.get(sequence).map(|kept| &kept.payload) != Some(payload) {
                return Err(format!("X: {payload} at {sequence} is lost"));
            }
        }
        Ok(origin)
    }

    fn check_copies(&mut self) -> Result<(), String> {
        let origin = self.origin()?;
        self.outcome.copied += 2 * origin.len() as u64;
        let same = |sequence: &u64, copy: &Kept| {
            let known = origin.get(sequence);
            known.is_some_and(|kept| kept.payload == copy.payload && kept.subject == copy.subject)
        };
        self.wait_for_stream("M", |mirror| {
            match mirror.iter().find(|(at, copy)| !same(at, copy)) {
                Some((at, copy)) => Err(format!("M: {copy:?} at {at}")),
                None if mirror.len() == origin.len() => Ok(None),
                None => Ok(Some(format!("{} of {}", mirror.len(), origin.len()))),
            }
        })?;
        self.wait_for_stream("A", |aggregate| {
            let mut before = 0;
            for (at, copy) in aggregate {
                let source = copy.header("Nats-Stream-Source");
                let words = source.and_then(|text| text.split(' ').nth(1));
                let from: u64 = words.and_then(|word| word.parse().ok()).unwrap_or(0);
                if from <= before || !same(&from, copy) {
                    return Err(format!("A: {copy:?} at {at}, behind {before}"));
                }
                before = from;
            }
            if aggregate.len() == origin.len() {
                return Ok(None);
            }
            Ok(Some(format!("{} of {}", aggregate.len(), origin.len())))
        })
    }

    fn check_schedules(&mut self) -> Result<(), String> {
        let (due, acknowledged) = (self.extras.due.clone(), self.extras.acknowledged.clone());
        self.wait_for_stream("X", |contents| {
            let mut done: BTreeMap<&str, u64> = BTreeMap::new();
            for kept in contents.values() {
                if !kept.subject.starts_with("x.done.") {
                    continue;
                }
                *done.entry(&kept.payload).or_default() += 1;
                let due_ns = due.get(&kept.payload).copied().unwrap_or(i64::MAX);
                if kept.time_ns < due_ns {
                    return Err(format!("X: {kept:?} came before its time {due_ns}"));
                }
            }
            if let Some((payload, _)) = done.iter().find(|(_, count)| **count > 1) {
                return Err(format!("X: {payload} came twice"));
            }
            let plans = contents.values();
            let plan = plans
                .clone()
                .find(|kept| kept.subject.starts_with("x.plan."));
            if let Some(plan) = plan {
                return Ok(Some(format!("{} is not done yet", plan.payload)));
            }
            let never = acknowledged.values();
            let mut never = never.filter(|payload| !done.contains_key(payload.as_str()));
            match never.next() {
                Some(payload) => Err(format!("X: {payload} never came")),
                None => Ok(None),
            }
        })?;
        self.outcome.scheduled += self.extras.acknowledged.len() as u64;
        Ok(())
    }

    /// Every message goes with its age; the last of a subject leaves a marker, which goes too.
    fn check_markers(&mut self) -> Result<(), String> {
        let mut marked = BTreeSet::new();
        self.wait_for_stream("X", |contents| {
            for (sequence, kept) in contents {
                if kept.header("Nats-Marker-Reason").is_none() {
                    continue;
                }
                marked.insert(*sequence);
                if !kept.payload.is_empty() {
                    return Err(format!("X: a marker that is none: {kept:?}"));
                }
            }
            let count = contents.len();
            Ok((count > 0).then(|| format!("{count} messages do not go")))
        })?;
        // Those published last are on all subjects, and nobody disturbed them.
        if marked.len() < LAST_PUBLISHES as usize {
            return Err(format!("X: markers at {marked:?} only"));
        }
        self.outcome.markers += marked.len() as u64;
        Ok(())
    }

    fn check_republished(&mut self) -> Result<(), String> {
        let origin = self.origin()?;
        for (sequence, payload) in &self.extras.heard {
            if origin.get(sequence).map(|kept| &kept.payload) != Some(payload) {
                return Err(format!(
                    "X: {payload} was heard at {sequence} and is not there"
                ));
            }
        }
        let last = self.extras.acknowledged.keys().rev();
        for sequence in last.take(LAST_PUBLISHES as usize) {
            if !self.extras.heard.contains_key(sequence) {
                return Err(format!("X: {sequence} was not published again"));
            }
        }
        self.outcome.republished += self.extras.heard.len() as u64;
        Ok(())
    }
}
