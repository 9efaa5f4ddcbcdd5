//! Which rows of operations explain what was seen of a stream.
//!
//! Operations on a stream take effect in the order in which they were sent. Of those whose answer
//! is not known, any may have been refused where a refusal is possible, and after a crash a tail of
//! them is missing. Everything else is wrong: something acknowledged that is not there, something
//! deleted that is, half of a batch, an order that was never sent.

use crate::model::{Change, Effect, Model};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// States looked at before a question is given up as undecided; no run comes near.
const STATES_MAX: u32 = 100_000;

/// An operation whose effect is not part of the model yet.
#[derive(Clone, Debug)]
pub struct Pending {
    pub number: u64,
    /// Which life of the server it was sent to. A crash takes a tail of each.
    pub life: u64,
    pub change: Change,
    /// What the server answered.
    pub answer: Option<Effect>,
    /// A reader saw it: it may never vanish again.
    pub seen: bool,
    /// It may be refused for reasons that the model does not know.
    pub may_be_refused: bool,
    /// Damage took its messages: what is left of them is at most that their sequences are used.
    pub burnt: bool,
}

impl Pending {
    const fn is_certain(&self) -> bool {
        self.answer.is_some() || self.seen
    }
}

/// All that can be read of a stream when nothing moves.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Subject and payload by sequence.
    pub messages: BTreeMap<u64, (String, Bytes)>,
    pub first: u64,
    pub last: u64,
    pub count: u64,
    /// `None`: not known.
    pub bytes: Option<u64>,
    pub description: String,
    pub consumers: Vec<String>,
    /// Messages that were hit by damage: counted and not served, and gone.
    pub unreadable: BTreeSet<u64>,
    pub missing: BTreeSet<u64>,
}

/// A state, and the operations that led to it, by their place among those that were pending.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub model: Model,
    pub done: Vec<usize>,
}

/// Does an operation on its way. `gaps`: operations before it may be lost to damage, and what it was
/// answered says where it stands.
pub fn apply_pending(model: &mut Model, one: &Pending, gaps: bool) -> Effect {
    if let (true, Some(Effect::Stored(last)), Change::Publish { messages, .. }) =
        (gaps, one.answer, &one.change)
    {
        model.last = model.last.max(last - messages.len() as u64);
    }
    if let (true, Change::Publish { messages, .. }) = (one.burnt, &one.change) {
        model.last += messages.len() as u64;
        return Effect::Stored(model.last);
    }
    model.apply(&one.change)
}

/// What goes on in [`explore`].
struct Search<'a> {
    pending: &'a [Pending],
    /// Whether the state may be gone on from.
    goes_on: &'a dyn Fn(&Model) -> bool,
    /// Whether this is it; it hears whether something certain is still missing, and what was done.
    is_it: &'a mut dyn FnMut(&Model, bool, &[usize]) -> bool,
    done: Vec<usize>,
    gaps: bool,
    left: u32,
}

impl Search<'_> {
    fn from(&mut self, model: &Model, at: usize) -> bool {
        let missing = self.pending[at..].iter().any(Pending::is_certain);
        if (self.is_it)(model, missing, &self.done) {
            return true;
        }
        let Some(next) = self.pending.get(at) else {
            return false;
        };
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        let mut after = model.clone();
        let effect = apply_pending(&mut after, next, self.gaps);
        let fits = next
            .answer
            .map_or(effect != Effect::Refused, |answer| answer == effect);
        if fits && (self.goes_on)(&after) {
            self.done.push(at);
            if self.from(&after, at + 1) {
                return true;
            }
            self.done.pop();
        }
        let skips = !next.is_certain() && (next.may_be_refused || effect == Effect::Refused);
        if skips && self.from(model, at + 1) {
            return true;
        }
        // The crash took this one and all behind it.
        let of_life = |one: &&Pending| one.life == next.life;
        let tail: Vec<&Pending> = self.pending[at..].iter().take_while(of_life).collect();
        let lost = tail.len();
        let loses = at + lost < self.pending.len() && !tail.iter().any(|one| one.is_certain());
        loses && self.from(model, at + lost)
    }
}

/// Whether the stream may be in a state that fits, with any number of pending operations done.
#[must_use]
pub fn may_be(model: &Model, pending: &[Pending], fits: &dyn Fn(&Model) -> bool) -> bool {
    Search {
        pending,
        goes_on: &|_| true,
        is_it: &mut |model, _, _| fits(model),
        done: Vec::new(),
        gaps: false,
        left: STATES_MAX,
    }
    .from(model, 0)
}

/// The state that a stream is in, from all that can be read of it.
///
/// # Errors
/// No row of operations explains it; the text says what is wrong with the most likely one.
pub fn resolve(
    model: &Model,
    pending: &[Pending],
    seen: &Seen,
    wall_ns: i64,
    gaps: bool,
) -> Result<Resolved, String> {
    let mut found = None;
    let mut best: Option<(usize, String)> = None;
    let goes_on = |after: &Model| {
        after.last <= seen.last
            && after
                .messages
                .iter()
                .rev()
                .take(1)
                .all(|(sequence, message)| {
                    seen.messages
                        .get(sequence)
                        .is_none_or(|(_, payload)| *payload == message.payload)
                })
    };
    let mut is_it = |state: &Model, missing: bool, done: &[usize]| {
        let wrong = if missing {
            vec!["something acknowledged or seen did not happen".to_owned()]
        } else {
            compare(state, seen, wall_ns)
        };
        if wrong.is_empty() {
            found = Some((state.clone(), done.to_vec()));
            return true;
        }
        if best.as_ref().is_none_or(|(count, _)| wrong.len() < *count) && !missing {
            best = Some((wrong.len(), wrong.join("; ")));
        }
        false
    };
    Search {
        pending,
        goes_on: &goes_on,
        is_it: &mut is_it,
        done: Vec::new(),
        gaps,
        left: STATES_MAX,
    }
    .from(model, 0);
    let Some((mut state, done)) = found else {
        let text = best.map_or_else(
            || "nothing that was acknowledged explains it".to_owned(),
            |(_, text)| text,
        );
        let open: Vec<String> = pending.iter().map(describe).collect();
        return Err(format!("{text}; unanswered: {}", open.join(", ")));
    };
    // What has expired stays gone.
    let gone: Vec<u64> = state
        .messages
        .keys()
        .copied()
        .filter(|sequence| {
            !seen.messages.contains_key(sequence) && !seen.unreadable.contains(sequence)
        })
        .collect();
    gone.into_iter().for_each(|sequence| state.remove(sequence));
    Ok(Resolved { model: state, done })
}

/// What is wrong, if the stream should be in this state. Messages that may have expired may be gone.
fn compare(state: &Model, seen: &Seen, wall_ns: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (sequence, (subject, payload)) in &seen.messages {
        match state.messages.get(sequence) {
            Some(message) if state.is_unneeded(*sequence, message) => wrong.push(format!(
                "nobody needs {} at sequence {sequence} any more, and it is there",
                short(payload)
            )),
            Some(message) if message.payload == *payload && message.subject == *subject => {}
            Some(message) => wrong.push(format!(
                "sequence {sequence} holds {} and not {}",
                short(payload),
                short(&message.payload)
            )),
            None => wrong.push(format!(
                "{} at sequence {sequence} must not be there",
                short(payload)
            )),
        }
    }
    let mut bytes = 0;
    for (sequence, message) in &state.messages {
        if seen.messages.contains_key(sequence) || seen.unreadable.contains(sequence) {
            bytes += message.size;
        } else if !state.may_be_gone(*sequence, message, wall_ns)
            && !seen.missing.contains(sequence)
        {
            let lost = short(&message.payload);
            wrong.push(format!("{lost} at sequence {sequence} is lost"));
        }
    }
    let mut differs = |what: &str, is: u64, should: u64| {
        if is != should {
            wrong.push(format!("{what} is {is} and not {should}"));
        }
    };
    let readable = seen.messages.first_key_value().map(|(first, _)| *first);
    let first = readable.into_iter().chain(seen.unreadable.first().copied());
    let first = first.min();
    let count = seen.messages.len() + seen.unreadable.len();
    let empty = if state.last == 0 { 0 } else { state.last + 1 };
    differs("the last sequence", seen.last, state.last);
    differs("the count", seen.count, count as u64);
    // An empty stream that was purged begins with 1, one that never held anything with 0.
    let purged = state.last == 0 && seen.first == 1;
    if !purged || first.is_some() {
        differs("the first sequence", seen.first, first.unwrap_or(empty));
    }
    if let Some(is) = seen.bytes.filter(|is| *is != bytes && wrong.is_empty()) {
        wrong.push(format!("{is} bytes and not {bytes}"));
    }
    if seen.description != state.limits.description {
        wrong.push(format!(
            "the configuration is {} and not {}",
            seen.description, state.limits.description
        ));
    }
    let mut is = seen.consumers.clone();
    let should: Vec<String> = state.consumers.keys().cloned().collect();
    is.sort();
    if is != should {
        wrong.push(format!("consumers are {is:?} and not {should:?}"));
    }
    wrong
}

/// An operation, for people.
fn describe(one: &Pending) -> String {
    let certain = if one.is_certain() { "certainly " } else { "" };
    match &one.change {
        Change::Publish { messages, .. } => {
            let first = messages.first().map(|message| short(&message.payload));
            format!("{certain}{} from {first:?}", messages.len())
        }
        other => format!("{certain}{other:?}"),
    }
}

/// The beginning of a payload, for people.
#[must_use]
pub fn short(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(12)]).into_owned();
    format!("{text:?} ({} bytes)", payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Limits, Sent};

    fn publish(number: u64, payloads: &[&str]) -> Pending {
        let message = |payload: &&str| Sent {
            subject: "s".to_owned(),
            payload: Bytes::from((*payload).to_owned()),
            expires_ns: i64::MAX,
            ..Sent::default()
        };
        Pending {
            number,
            life: 0,
            change: Change::Publish {
                messages: payloads.iter().map(message).collect(),
                batch: payloads.len() > 1,
            },
            answer: None,
            seen: false,
            may_be_refused: false,
            burnt: false,
        }
    }

    fn seen(messages: &[(u64, &str)], last: u64) -> Seen {
        let messages: BTreeMap<u64, (String, Bytes)> = messages
            .iter()
            .map(|(at, text)| (*at, ("s".to_owned(), Bytes::from((*text).to_owned()))))
            .collect();
        let bytes = messages.values().map(|(_, text)| 31 + text.len() as u64);
        let empty = if last == 0 { 0 } else { last + 1 };
        Seen {
            first: messages.keys().next().copied().unwrap_or(empty),
            last,
            count: messages.len() as u64,
            bytes: Some(bytes.sum()),
            messages,
            ..Seen::default()
        }
    }

    /// One acknowledged message, one unanswered publish, one unanswered batch of two.
    fn history() -> (Model, Vec<Pending>) {
        let mut model = Model::new(Limits::default());
        model.apply(&publish(1, &["a"]).change);
        (model, vec![publish(2, &["b"]), publish(3, &["x", "y"])])
    }

    #[test]
    fn every_allowed_outcome_passes() {
        let (model, pending) = history();
        let allowed: [&[(u64, &str)]; 3] = [
            &[(1, "a")],
            &[(1, "a"), (2, "b")],
            &[(1, "a"), (2, "b"), (3, "x"), (4, "y")],
        ];
        for messages in allowed {
            let seen = seen(messages, messages.len() as u64);
            let state = resolve(&model, &pending, &seen, 0, false).expect("allowed");
            assert_eq!(state.model.messages.len(), messages.len());
        }
        let mut refusable = pending;
        refusable[0].may_be_refused = true;
        let seen = seen(&[(1, "a"), (2, "x"), (3, "y")], 3);
        assert!(resolve(&model, &refusable, &seen, 0, false).is_ok());
    }

    #[test]
    fn every_forbidden_outcome_is_noticed() {
        let (model, pending) = history();
        let forbidden: [&[(u64, &str)]; 7] = [
            &[],
            &[(1, "b")],
            &[(1, "a"), (2, "x")],
            &[(1, "a"), (2, "x"), (3, "y")],
            &[(1, "a"), (2, "b"), (3, "x")],
            &[(1, "a"), (2, "b"), (3, "y"), (4, "x")],
            &[(1, "a"), (2, "never sent")],
        ];
        for messages in forbidden {
            let seen = seen(messages, messages.len() as u64);
            assert!(
                resolve(&model, &pending, &seen, 0, false).is_err(),
                "{messages:?}"
            );
        }
    }

    #[test]
    fn what_was_acknowledged_or_seen_must_be_there() {
        let (model, mut pending) = history();
        pending[0].seen = true;
        assert!(resolve(&model, &pending, &seen(&[(1, "a")], 1), 0, false).is_err());
        pending[0].seen = false;
        pending[1].answer = Some(Effect::Stored(4));
        assert!(resolve(&model, &pending, &seen(&[(1, "a"), (2, "b")], 2), 0, false).is_err());
    }

    #[test]
    fn a_delete_without_an_answer_may_have_happened_and_one_with_it_must() {
        let (model, _) = history();
        let mut delete = Pending {
            number: 9,
            life: 0,
            change: Change::Delete { sequence: 1 },
            answer: None,
            seen: false,
            may_be_refused: false,
            burnt: false,
        };
        let (there, gone) = (seen(&[(1, "a")], 1), seen(&[], 1));
        let ask =
            |delete: &Pending, seen| resolve(&model, std::slice::from_ref(delete), seen, 0, false);
        assert!(ask(&delete, &there).is_ok() && ask(&delete, &gone).is_ok());
        delete.answer = Some(Effect::Done);
        assert!(ask(&delete, &there).is_err() && ask(&delete, &gone).is_ok());
    }

    #[test]
    fn only_what_may_have_expired_may_be_gone() {
        let (mut model, _) = history();
        if let Some(message) = model.messages.get_mut(&1) {
            std::sync::Arc::make_mut(message).expires_ns = 50;
        }
        assert!(resolve(&model, &[], &seen(&[], 1), 49, false).is_err());
        assert!(resolve(&model, &[], &seen(&[], 1), 50, false).is_ok());
        assert!(resolve(&model, &[], &seen(&[(1, "a")], 1), 50, false).is_ok());
    }
}
