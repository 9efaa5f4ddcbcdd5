//! Mirrors and sources: what comes from an origin is decided here as publishes are in `lead.rs`, in one
//! order with them, and logged with all that applying needs: a mirror's sequence and time, a source's
//! header that says how far it was read. How the messages are got is `crate::origin`.
//!
//! Flow control is answered when what came before it is applied, so that an origin sends no faster than
//! this stream's journal takes.

use bytes::Bytes;

use super::Stream;
use super::binding::direct_get_filters;
use super::lead::{Admission, Inbound, Question};
use crate::entry::{MessageParts, Operation};
use crate::ids::{Endpoint, OriginId};
use crate::io::{Durability, Message};
use crate::model::{SourceInfo, StreamConfig};
use crate::origin::{
    Answered, Arrival, CAUGHT_UP_LAG, FlowAnswer, IndexName, Kind, Place, Puller, SourcePosition,
    from_origin, from_source, is_control, origin_of,
};
use crate::publish::{CheckFunction, PublishHeaders, Verdict, copies};
use crate::shared::Turn;

/// The origins of a stream that leads.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    place: Place,
    pullers: Vec<Puller>,
    /// A mirror that has caught up answers for its origin.
    pub(super) is_caught_up: bool,
}

/// Something that came from an origin and waits for its turn.
#[derive(Debug)]
pub(crate) enum Copied {
    Message(Arrival),
    /// Deliveries begin behind this sequence: a mirror has nothing before it.
    Begin(OriginId, u64),
    Flow(FlowAnswer),
}

/// A message as it is to be stored.
struct Copy {
    /// A mirror's: its sequence.
    mirrored: Option<u64>,
    subject: Bytes,
    headers: Bytes,
    table: &'static [CheckFunction],
    now_ns: i64,
}

impl Copied {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Message(Arrival { message, .. }) => {
                (message.headers.len() + message.payload.len()) as u64
            }
            Self::Begin(..) | Self::Flow(_) => 0,
        }
    }

    const fn origin(&self) -> OriginId {
        match self {
            Self::Message(arrival) => arrival.origin,
            Self::Begin(origin, _) => *origin,
            Self::Flow(answer) => answer.origin,
        }
    }
}

impl Stream {
    /// The lead was taken, or the configuration changed: origins that stay are gone on with.
    pub(crate) fn begin_copying(&mut self, turn: &mut Turn<'_>) {
        if self.restoring {
            return;
        }
        let mut before = self.copying.take().map(|copying| *copying);
        let account_name = turn.shared.account_names.get(&self.account).cloned();
        let place = Place {
            account: Some(self.account),
            account_name: account_name.unwrap_or_default(),
            domain: turn.shared.domain.clone(),
            stream: self.name.clone(),
            id: Some(self.id),
        };
        let mirror = self.config.mirror.iter().map(|one| (one, Kind::Mirror));
        let sources = self.config.sources.iter();
        let sources = sources.map(|one| (one, Kind::Source(IndexName::new(one))));
        let mut pullers: Vec<Puller> = Vec::new();
        for (source, kind) in mirror.chain(sources) {
            let kept = before.as_mut().and_then(|before| {
                let same = |one: &Puller| one.source == *source && one.kind == kind;
                let at = before.pullers.iter().position(same)?;
                Some(before.pullers.swap_remove(at))
            });
            let puller = kept.unwrap_or_else(|| {
                let mut puller = Puller::new(&place, source, kind.clone(), turn.now);
                puller.set_position(self.position_of(&kind));
                puller
            });
            pullers.push(puller);
        }
        let is_caught_up = before.as_ref().is_some_and(|before| before.is_caught_up);
        for mut gone in before.into_iter().flat_map(|before| before.pullers) {
            gone.leave(turn, &place);
        }
        if !pullers.is_empty() {
            self.copying = Some(Box::new(Copying {
                place,
                is_caught_up: is_caught_up && self.config.mirror.is_some(),
                pullers,
            }));
        }
    }

    /// Where the copy of an origin goes on, as staged state has it.
    fn position_of(&self, kind: &Kind) -> SourcePosition {
        match kind {
            Kind::Mirror => SourcePosition {
                sequence: self.lead.last_sequence,
                identity: Bytes::new(),
            },
            Kind::Source(name) => {
                let position = self.source_positions.get(&name.key());
                position.cloned().unwrap_or_default()
            }
        }
    }

    /// The lead is lost, or the stream ends.
    pub(crate) fn end_copying(&mut self, turn: &mut Turn<'_>) {
        let Some(mut copying) = self.copying.take() else {
            return;
        };
        let Copying { place, pullers, .. } = &mut *copying;
        for puller in pullers {
            puller.leave(turn, place);
        }
    }

    pub(super) fn copying_deadline(&self) -> Option<u64> {
        let pullers = &self.copying.as_ref()?.pullers;
        pullers.iter().map(Puller::next_deadline).min()
    }

    pub(super) fn tick_copying(&mut self, turn: &mut Turn<'_>) {
        if let Some(copying) = &mut self.copying {
            let Copying { place, pullers, .. } = &mut **copying;
            for puller in pullers {
                if puller.kind == Kind::Mirror {
                    puller.advance(self.lead.last_sequence);
                }
                puller.tick(turn, place);
            }
        }
    }

    /// Whether it reads a local stream of this name.
    pub(crate) fn copies(&self, name: &str) -> bool {
        self.copying.as_ref().is_some_and(|copying| {
            let mut pullers = copying.pullers.iter();
            pullers.any(|one| one.source.external.is_none() && one.source.name == name)
        })
    }

    /// A stream of this name came into being, or went, in the account: a local origin is asked again.
    pub(crate) fn origin_changed(&mut self, turn: &mut Turn<'_>, name: &str, exists: bool) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        let Copying { place, pullers, .. } = &mut **copying;
        for puller in pullers {
            if puller.source.external.is_some() || puller.source.name != name {
                continue;
            }
            if exists {
                puller.hurry(turn.now);
            } else {
                puller.restart(turn, place);
            }
        }
    }

    /// Origins that are reported: the mirror's, or the sources'.
    #[must_use]
    pub fn source_infos(&self, now: millrace_clock::Now) -> Vec<SourceInfo> {
        match &self.copying {
            Some(copying) => {
                let infos = copying.pullers.iter().map(|one| {
                    // What is applied is reported, not what is on its way.
                    let applied = match &one.kind {
                        Kind::Mirror => None,
                        Kind::Source(name) => self.source_positions.get(&name.key()),
                    };
                    SourceInfo {
                        sequence: applied.map_or(0, |position| position.sequence),
                        ..one.info(now)
                    }
                });
                infos.collect()
            }
            None => {
                let configured = self.config.mirror.iter().chain(&self.config.sources);
                configured.map(SourceInfo::of).collect()
            }
        }
    }

    /// Something from an origin.
    pub(crate) fn origin_input(
        &mut self,
        turn: &mut Turn<'_>,
        endpoint: Endpoint,
        message: Message,
    ) {
        let (origin, is_answer) = match endpoint {
            Endpoint::Origin(origin) => (origin, false),
            Endpoint::OriginAnswer(origin) => (origin, true),
            _ => return,
        };
        if !self.lead.is_leader || self.quarantined {
            return;
        }
        let full = self.lead.is_full(message.payload.len() as u64, turn.shared);
        let Some(copying) = &mut self.copying else {
            return;
        };
        let Copying { place, pullers, .. } = &mut **copying;
        let is_it = |one: &&mut Puller| one.origin() == Some(origin);
        let Some(puller) = pullers.iter_mut().find(is_it) else {
            return;
        };
        let copied = if is_answer {
            match puller.answered(turn, place, &message) {
                Answered::Nothing => None,
                Answered::Begun { origin, delivered } => Some(Copied::Begin(origin, delivered)),
            }
        } else if is_control(&message) {
            puller.control(turn, place, &message).map(Copied::Flow)
        } else if full {
            // The origin does not keep to flow control: what does not fit is asked for again.
            puller.restart(turn, place);
            None
        } else {
            puller.take(turn, place, message).map(Copied::Message)
        };
        self.note_caught_up(turn);
        if let Some(copied) = copied {
            self.enqueue(turn, Inbound::Copied(Box::new(copied)));
        }
    }

    /// A mirror that is near its origin's end for the first time begins to answer for it.
    fn note_caught_up(&mut self, turn: &mut Turn<'_>) {
        let Some(copying) = &mut self.copying else {
            return;
        };
        let near = |one: &Puller| one.is_pulling() && one.lag() <= CAUGHT_UP_LAG;
        if copying.is_caught_up || !self.config.mirror_direct || !copying.pullers.iter().any(near) {
            return;
        }
        copying.is_caught_up = true;
        if self.bound {
            let filters = self.mirror_filters(&self.config, &turn.shared.domain);
            self.bind_filters(turn, filters, true);
        }
    }

    pub(super) fn admit_copied(&mut self, turn: &mut Turn<'_>, copied: &Copied) -> Admission {
        let pullers = self.copying.as_ref().map(|copying| &copying.pullers);
        let origin = copied.origin();
        let Some(at) =
            pullers.and_then(|pullers| pullers.iter().position(|one| one.origin() == Some(origin)))
        else {
            // Of an attempt that is over: it comes again with the next.
            return Admission::Done;
        };
        match copied {
            Copied::Begin(_, delivered) => self.begin_at(at, *delivered),
            Copied::Flow(answer) => {
                self.lead
                    .answer_flow_later(answer.reply.clone(), answer.headers.clone());
                self.release_answers(turn);
            }
            Copied::Message(arrival) => return self.admit_arrival(turn, at, arrival),
        }
        Admission::Done
    }

    fn begin_at(&mut self, at: usize, delivered: u64) {
        let last = self.lead.last_sequence;
        let Some(puller) = self.puller_mut(at) else {
            return;
        };
        if puller.kind == Kind::Mirror && delivered > last {
            puller.advance(delivered);
            self.lead
                .stage(&Operation::Skip { through: delivered }, Durability::Lazy);
            self.lead.last_sequence = delivered;
        }
    }

    /// What an arrival becomes; `None`: it is here already.
    fn copy_of(&self, turn: &mut Turn<'_>, puller: &Puller, arrival: &Arrival) -> Option<Copy> {
        let sequence = arrival.delivered.sequence;
        let block = &arrival.message.headers;
        let Kind::Source(name) = &puller.kind else {
            // What the stream has by now, from an earlier attempt, comes again.
            return (sequence > self.lead.last_sequence).then(|| Copy {
                mirrored: Some(sequence),
                subject: arrival.subject.clone(),
                headers: from_origin(block),
                table: copies::MIRRORED,
                now_ns: arrival.delivered.time_ns,
            });
        };
        let identity = puller.position().identity;
        let from = (sequence, &arrival.message.subject[..], &identity[..]);
        let mapped = self.mapped(turn.shared, &arrival.subject);
        Some(Copy {
            mirrored: None,
            subject: mapped.map_or_else(|| arrival.subject.clone(), Bytes::from),
            headers: Bytes::from(from_source(block, name, from)),
            table: copies::SOURCED,
            now_ns: turn.now.wall_ns,
        })
    }

    fn admit_arrival(&mut self, turn: &mut Turn<'_>, at: usize, arrival: &Arrival) -> Admission {
        let puller = self.copying.as_ref().and_then(|one| one.pullers.get(at));
        let Some(copy) = puller.and_then(|puller| self.copy_of(turn, puller, arrival)) else {
            return Admission::Done;
        };
        let parts = MessageParts {
            subject: &copy.subject,
            headers: &copy.headers,
            payload: &arrival.message.payload,
            note: b"",
        };
        let headers = PublishHeaders::parse(&copy.headers);
        let mut checked = self.check(Question {
            table: copy.table,
            allowance: turn.shared.allowance(self.account, self.config.storage),
            now_ns: copy.now_ns,
            diff: None,
            index: 0,
            headers: &headers,
            message: parts,
        });
        let sequence = arrival.delivered.sequence;
        match std::mem::replace(&mut checked.verdict, Verdict::Pass) {
            Verdict::WaitForFlight | Verdict::WaitForDisk => return Admission::Wait,
            Verdict::Refuse(refusal) if copies::may_pass_later(&refusal) => {
                self.restart_puller(turn, at);
                return Admission::Done;
            }
            Verdict::Refuse(_) | Verdict::Duplicate(_) => {
                self.pass_over(at, sequence, copy.mirrored.is_some());
            }
            verdict @ (Verdict::Pass | Verdict::Unwanted) => {
                checked.decision.unwanted = verdict == Verdict::Unwanted;
                let own = copy.mirrored.unwrap_or(self.lead.last_sequence + 1);
                let stored = checked.parts(parts);
                if copy.mirrored.is_none() {
                    self.lead.writer.place(own);
                }
                self.lead
                    .writer
                    .copy(copy.mirrored, checked.decision, stored);
                self.lead.mark_urgent();
                self.depart_as(own, &headers, parts.subject, checked);
            }
        }
        if let Some(puller) = self.puller_mut(at) {
            puller.advance(sequence);
        }
        Admission::Done
    }

    fn puller_mut(&mut self, at: usize) -> Option<&mut Puller> {
        self.copying.as_mut()?.pullers.get_mut(at)
    }

    /// There is no room: the same message is asked for again later.
    fn restart_puller(&mut self, turn: &mut Turn<'_>, at: usize) {
        if let Some(copying) = &mut self.copying {
            let Copying { place, pullers, .. } = &mut **copying;
            if let Some(puller) = pullers.get_mut(at) {
                puller.restart(turn, place);
            }
        }
    }

    /// A message that is not stored: the log knows that it was seen.
    fn pass_over(&mut self, at: usize, sequence: u64, is_mirror: bool) {
        if is_mirror {
            self.lead
                .stage(&Operation::Skip { through: sequence }, Durability::Lazy);
            self.lead.last_sequence = sequence;
            return;
        }
        let puller = self.copying.as_ref().and_then(|one| one.pullers.get(at));
        if let Some((Kind::Source(name), position)) =
            puller.map(|puller| (&puller.kind, puller.position()))
        {
            let operation = Operation::SourcePosition {
                sequence,
                name: name.key(),
                identity: position.identity,
            };
            self.lead.stage(&operation, Durability::Lazy);
        }
    }

    /// Direct get subjects of the origin that a mirror answers for.
    pub(super) fn mirror_filters(
        &self,
        config: &StreamConfig,
        domain: &str,
    ) -> Vec<(Bytes, Endpoint)> {
        let ready = self.copying.as_ref().is_some_and(|one| one.is_caught_up);
        match &config.mirror {
            Some(mirror) if config.mirror_direct && ready => {
                direct_get_filters(&mirror.name, domain, self.id)
            }
            _ => Vec::new(),
        }
    }

    /// Applying a message of a source: how far it was read.
    pub(super) fn note_position(&mut self, headers: &[u8]) {
        if let Some((name, position)) = origin_of(headers) {
            self.source_positions.set(name, position);
        }
    }

    /// Uses up sequences that a mirror does not have.
    pub(super) fn apply_skip(&mut self, through: u64) {
        if through > self.store.state().last_sequence {
            self.store.skip(through, 0);
        }
    }
}
