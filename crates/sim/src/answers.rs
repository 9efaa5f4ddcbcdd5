//! What came back: every answer is checked when it comes, and what it says is kept.

use crate::client::Received;
use crate::consumer_track::Delivery;
use crate::extras::AGAIN;
use crate::model::{Change, Effect};
use crate::node_run::{INBOX, NodeRun, Request};
use crate::track::{Existence, Read};
use serde_json::Value;

/// JetStream refuses for want of room.
const INSUFFICIENT_RESOURCES: u64 = 10_023;
/// There is no such consumer.
const NO_CONSUMER: u64 = 10_014;
/// The message cannot be read.
const UNREADABLE: u64 = 10_051;
/// There is no such message.
const NO_MESSAGE: u64 = 10_037;
/// The stream does not exist.
const NO_STREAM: u64 = 10_059;

/// A message from the answer of `STREAM.MSG.GET`; `None`: there is none, or it cannot be read.
///
/// # Errors
/// The answer is neither.
pub(crate) fn stored_message(answer: &Received) -> Result<Option<Read>, String> {
    let json: Value = serde_json::from_slice(&answer.payload)
        .map_err(|_| format!("no answer: {:?}", String::from_utf8_lossy(&answer.headers)))?;
    if let Some(error) = json.get("error") {
        return if error["err_code"] == NO_MESSAGE || error["err_code"] == UNREADABLE {
            Ok(None)
        } else {
            Err(error.to_string())
        };
    }
    let message = &json["message"];
    let data = message["data"].as_str().unwrap_or("");
    let payload = data_encoding::BASE64
        .decode(data.as_bytes())
        .map_err(|_| "no base64".to_owned())?;
    Ok(Some(Read {
        sequence: message["seq"].as_u64().unwrap_or(0),
        subject: message["subject"].as_str().unwrap_or("").to_owned(),
        payload: payload.into(),
        ..Read::default()
    }))
}

/// A message from a direct get.
fn direct_message(answer: &Received, filter: Option<&str>) -> Read {
    let number = |name: &str| answer.header(name).and_then(|value| value.parse().ok());
    let pending = number("Nats-Num-Pending").zip(filter);
    Read {
        sequence: number("Nats-Sequence").unwrap_or(0),
        subject: answer.header("Nats-Subject").unwrap_or("").to_owned(),
        payload: answer.payload.clone().into(),
        pending: pending.map(|(count, filter)| (filter.to_owned(), count)),
        ..Read::default()
    }
}

impl NodeRun {
    /// Takes a message that the client got.
    pub(crate) fn take_message(&mut self, message: Received) -> Result<(), String> {
        if message.subject.starts_with(AGAIN) {
            return self.take_again(&message);
        }
        if let Some(delivery) = Delivery::parse(&message.reply) {
            return self.take_delivery(&delivery, &message);
        }
        let number = message
            .subject
            .strip_prefix(INBOX)
            .and_then(|rest| rest.strip_prefix('.')?.parse::<u64>().ok());
        let Some(number) = number else {
            return self.take_consumer_status(&message);
        };
        let Some(request) = self.requests.remove(&number) else {
            return if self.is_asked_before_restart(number) {
                Ok(())
            } else {
                Err(format!("a second answer on {}", message.subject))
            };
        };
        self.take_answer(number, request, message)
    }

    /// Answers of a JetStream that failed meanwhile may still be on their way to the client.
    fn is_asked_before_restart(&self, number: u64) -> bool {
        self.forgotten_through >= number
    }

    fn take_answer(
        &mut self,
        number: u64,
        request: Request,
        message: Received,
    ) -> Result<(), String> {
        let json: Value = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
        match request {
            Request::Question => self.answer_question(number, message),
            Request::CreateStream { stream, limits } => {
                if message.is_no_responders() || is_error(&json, INSUFFICIENT_RESOURCES) {
                    self.streams[stream].removed();
                } else if json.get("error").is_some() {
                    return Err(format!("S{stream} was not made: {json}"));
                } else {
                    self.streams[stream].created(limits);
                }
            }
            Request::RemoveStream { stream } => {
                if message.is_no_responders() {
                    self.streams[stream].existence = Existence::Present;
                } else if json["success"] == true {
                    self.outcome.removed_streams += 1;
                    self.streams[stream].removed();
                } else {
                    return Err(format!("S{stream} was not removed: {json}"));
                }
            }
            Request::Operation {
                stream,
                number: operation,
            } => {
                return self.operation_answered(stream, operation, &message, &json);
            }
            Request::Staged {
                stream,
                number: batch,
            } => {
                if message.is_no_responders() || json.get("error").is_some() {
                    self.streams[stream]
                        .batches
                        .retain(|open| open.number != batch);
                }
            }
            Request::Extra(request) => return self.extra_answered(request, &message, &json),
            Request::Acknowledge {
                stream,
                consumer,
                sequence,
            } => {
                if !message.is_no_responders() {
                    self.acknowledgement_answered(stream, &consumer, sequence);
                }
            }
            read => return self.read_answered(number, read, &message, &json),
        }
        Ok(())
    }

    fn operation_answered(
        &mut self,
        stream: usize,
        operation: u64,
        message: &Received,
        json: &Value,
    ) -> Result<(), String> {
        let track = &mut self.streams[stream];
        let Some(pending) = track.pending.iter().find(|one| one.number == operation) else {
            // The stream was removed, or made again.
            return Ok(());
        };
        let change = pending.change.clone();
        if message.is_no_responders() {
            // Nobody heard of it.
            track.pending.retain(|one| one.number != operation);
            return Ok(());
        }
        let why = json.to_string();
        if json.get("error").is_some() {
            return self.operation_refused(stream, operation, &change, json);
        }
        let effect = match &change {
            Change::Publish { messages, batch } => {
                let Some(sequence) = json["seq"].as_u64() else {
                    return Err(format!("no acknowledgement: {why}"));
                };
                if *batch && json["count"].as_u64() != Some(messages.len() as u64) {
                    return Err(format!("a batch of {} has {why}", messages.len()));
                }
                self.outcome.batches += u64::from(*batch);
                if json["duplicate"] == true {
                    self.outcome.duplicates += 1;
                    Effect::Duplicate(sequence)
                } else {
                    Effect::Stored(sequence)
                }
            }
            Change::Delete { .. } => {
                self.outcome.deletes += 1;
                Effect::Done
            }
            Change::Purge { .. } => {
                self.outcome.purges += 1;
                Effect::Done
            }
            Change::Configure(_) => {
                self.outcome.updates += 1;
                Effect::Done
            }
            Change::CreateConsumer { .. } | Change::DeleteConsumer(_) => Effect::Done,
        };
        track.answered(operation, effect)?;
        self.outcome.unwanted += std::mem::take(&mut track.unwanted);
        self.consumer_answered(stream, &change);
        Ok(())
    }

    /// The server says no: that is right where there was nothing to do, or no room for it.
    fn operation_refused(
        &mut self,
        stream: usize,
        operation: u64,
        change: &Change,
        json: &Value,
    ) -> Result<(), String> {
        let removing = self.streams[stream].existence == Existence::Removing;
        let track = &mut self.streams[stream];
        self.outcome.refused += 1;
        // There is no such message any more: the delete came to nothing.
        let absent = matches!(change, Change::Delete { .. })
            && (is_error(json, 10_043) || is_error(json, 10_057) || is_error(json, NO_MESSAGE));
        if let (true, Change::Delete { sequence }) = (absent, change) {
            track.read_nothing(*sequence, self.wall_max_ns)?;
            return track.came_to_nothing(operation);
        }
        if let Change::DeleteConsumer(name) = change
            && is_error(json, NO_CONSUMER)
            && track.doubtful_consumers.contains(name)
        {
            return track.came_to_nothing(operation);
        }
        if removing && is_error(json, NO_STREAM) {
            return Ok(());
        }
        track.refused(operation, &json.to_string())
    }

    /// A reader may only be told what is so; with a disk that fails to read, also that it cannot be.
    fn read_answered(
        &mut self,
        number: u64,
        request: Request,
        message: &Received,
        json: &Value,
    ) -> Result<(), String> {
        if message.is_no_responders() || is_error(json, NO_STREAM) {
            return Ok(());
        }
        self.outcome.reads += 1;
        let wall_ns = self.wall_max_ns;
        match request {
            Request::Get { stream, sequence } => match self.read_message(message) {
                Ok(Some(read)) if read.sequence == sequence => {
                    self.track_if_present(stream, |track| track.read(&read, wall_ns))
                }
                Ok(Some(read)) => Err(format!("asked for {sequence}, got {}", read.sequence)),
                // It may twice have failed to be read.
                Ok(None) => self
                    .track_if_present(stream, |track| track.read_nothing(sequence, wall_ns))
                    .or_else(|wrong| self.unreadable(&wrong)),
                Err(wrong) => self.unreadable(&wrong),
            },
            Request::LastOf {
                stream,
                subject,
                known,
            } => match self.read_message(message) {
                Ok(read) => self.track_if_present(stream, |track| {
                    track.read_last_of(&subject, known, read.as_ref(), wall_ns)
                }),
                Err(wrong) => self.unreadable(&wrong),
            },
            Request::Numbers { stream } => {
                let state = |name: &str| json["state"][name].as_u64().unwrap_or(0);
                let (count, last) = (state("messages"), state("last_seq"));
                self.track_if_present(stream, |track| track.read_numbers(count, last, wall_ns))
            }
            row @ Request::Row { .. } => self.row_answered(number, row, message),
            Request::ConsumerNumbers { stream, consumer } => {
                self.consumer_numbers(stream, &consumer, json)
            }
            _ => Ok(()),
        }
    }

    /// One message of a row, or its end.
    fn row_answered(
        &mut self,
        number: u64,
        request: Request,
        message: &Received,
    ) -> Result<(), String> {
        let wall_ns = self.wall_max_ns;
        let Request::Row {
            stream,
            start,
            most,
            filter,
            mut got,
            version,
        } = request
        else {
            return Ok(());
        };

        if let Some(404 | 204) = message.status() {
            return self.track_if_present(stream, |track| {
                track.read_row(start, &got, most, &filter, wall_ns)
            });
        }
        if message.status().is_some_and(|status| status >= 400) {
            return self.unreadable("a row of messages");
        }
        // What it says is behind it was counted when it was asked.
        let now = self.streams[stream].version;
        let vanishes = self.streams[stream].model.limits.vanishes();
        let counted = (version == now && !vanishes).then_some(filter.as_str());
        let mut read = direct_message(message, counted);
        read.passed = self.streams[stream].expired_between(start, read.sequence, &filter, wall_ns);
        got.push(read.sequence);
        self.requests.insert(
            number,
            Request::Row {
                stream,
                start,
                most,
                filter,
                got,
                version,
            },
        );
        self.track_if_present(stream, |track| track.read(&read, wall_ns))
    }

    fn track_if_present(
        &mut self,
        stream: usize,
        check: impl FnOnce(&mut crate::track::Track) -> Result<(), String>,
    ) -> Result<(), String> {
        let track = &mut self.streams[stream];
        if track.existence == Existence::Present {
            check(track)
        } else {
            Ok(())
        }
    }

    fn read_message(&self, message: &Received) -> Result<Option<Read>, String> {
        if message.header("Nats-Sequence").is_some() {
            return Ok(Some(direct_message(message, None)));
        }
        match message.status() {
            Some(404) => Ok(None),
            Some(status) => Err(format!("status {status}")),
            None => stored_message(message),
        }
    }

    fn unreadable(&self, wrong: &str) -> Result<(), String> {
        if self.plan.knobs.fail_read_permille > 0 || self.is_damaged() {
            Ok(())
        } else {
            Err(format!("a read was answered with {wrong}"))
        }
    }
}

fn is_error(json: &Value, code: u64) -> bool {
    json["error"]["err_code"].as_u64() == Some(code)
}
