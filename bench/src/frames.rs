//! Protocol bytes in large blocks: what a publisher repeats, and how many messages a reader has
//! seen. Nothing here copies a payload.

use std::ops::Range;
use std::rc::Rc;

/// Payloads up to this size are handed out whole even if they arrive in pieces.
const WHOLE_BODY_BYTES: usize = 4 << 10;
/// A longer line than this is not the protocol.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Frames of equal length in one block, handed out in turn and again from the start.
#[derive(Clone)]
pub(crate) struct Supply {
    bytes: Rc<[u8]>,
    frame: usize,
    next: usize,
}

impl Supply {
    /// Joins frames; they must have the same length.
    pub(crate) fn new(frames: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut bytes = Vec::new();
        let mut frame = 0;
        for one in frames {
            assert!(
                frame == 0 || frame == one.len(),
                "frames of a supply have one length"
            );
            frame = one.len();
            bytes.extend_from_slice(&one);
        }
        assert!(frame > 0, "a supply has a frame");
        Self {
            bytes: bytes.into(),
            frame,
            next: 0,
        }
    }

    /// The same frame again and again, in a block of about 64 KiB.
    pub(crate) fn repeat(frame: &[u8]) -> Self {
        let count = ((64 << 10) / frame.len()).clamp(1, 1000);
        Self::new((0..count).map(|_| frame.to_vec()))
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / self.frame
    }

    pub(crate) fn bytes(&self) -> &Rc<[u8]> {
        &self.bytes
    }

    /// At most `most` frames that lie side by side: their number and place.
    pub(crate) fn take(&mut self, most: u64) -> (u64, Range<usize>) {
        let count = (self.len() - self.next).min(usize::try_from(most).unwrap_or(usize::MAX));
        let start = self.next * self.frame;
        self.next = (self.next + count) % self.len();
        (count as u64, start..start + count * self.frame)
    }
}

/// One PUB (or HPUB, with headers) with a payload of `payload` bytes.
pub(crate) fn publish(subject: &str, reply: &str, headers: &str, payload: usize) -> Vec<u8> {
    let mut frame = request(subject, reply, headers, payload);
    frame.resize(frame.len() + payload, b'x');
    frame.extend_from_slice(b"\r\n");
    frame
}

/// One PUB with this text as payload.
pub(crate) fn publish_text(subject: &str, reply: &str, payload: &str) -> Vec<u8> {
    publish_bytes(subject, reply, payload.as_bytes())
}

/// One PUB with these bytes as payload.
pub(crate) fn publish_bytes(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = request(subject, reply, "", payload.len());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b"\r\n");
    frame
}

/// The line, and the headers, in front of a payload.
fn request(subject: &str, reply: &str, headers: &str, payload: usize) -> Vec<u8> {
    let space = if reply.is_empty() { "" } else { " " };
    if headers.is_empty() {
        format!("PUB {subject}{space}{reply} {payload}\r\n")
    } else {
        format!(
            "HPUB {subject}{space}{reply} {} {}\r\n{headers}",
            headers.len(),
            headers.len() + payload
        )
    }
    .into_bytes()
}

/// A message that a reader was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// `MSG …` or `HMSG …` without the line end.
    pub(crate) line: &'a [u8],
    /// Headers and payload; empty if large and received in pieces.
    pub(crate) body: &'a [u8],
}

impl<'a> Received<'a> {
    /// The words of the line.
    fn words(&self) -> impl Iterator<Item = &'a [u8]> {
        self.line
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
    }

    /// The number that the reader gave to the subscription.
    pub(crate) fn sid(&self) -> &'a [u8] {
        self.words().nth(2).unwrap_or_default()
    }

    pub(crate) fn reply(&self) -> Option<&'a [u8]> {
        let is_headers = self.line.starts_with(b"H");
        let with_reply = if is_headers { 6 } else { 5 };
        (self.words().count() == with_reply)
            .then(|| self.words().nth(3))
            .flatten()
    }

    /// The code of a message that is only a status, such as 100 or 404.
    pub(crate) fn status(&self) -> Option<u16> {
        let rest = self.body.strip_prefix(b"NATS/1.0 ")?;
        std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
    }

    /// Whether this is an answer of the API that holds an error.
    pub(crate) fn is_error(&self) -> bool {
        memchr::memmem::find(self.body, b"\"error\":").is_some()
    }
}

/// Steps from message to message through blocks as they were read.
#[derive(Default)]
pub(crate) struct Scanner {
    /// A line, and a small payload, that have not arrived whole.
    held: Vec<u8>,
    /// Bytes of a large payload (and its line end) that are still to come, and its line.
    skip: usize,
    skipped: Vec<u8>,
}

impl Scanner {
    /// Hands every message that is now complete to `on_message`.
    pub(crate) fn scan(
        &mut self,
        block: &[u8],
        mut on_message: impl FnMut(Received<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut rest = block;
        if self.skip > 0 {
            let count = self.skip.min(rest.len());
            self.skip -= count;
            rest = rest.get(count..).unwrap_or_default();
            if self.skip > 0 {
                return Ok(());
            }
            let line = std::mem::take(&mut self.skipped);
            on_message(Received {
                line: &line,
                body: b"",
            })?;
        }
        if self.held.is_empty() {
            let used = self.step_through(rest, &mut on_message)?;
            self.held
                .extend_from_slice(rest.get(used..).unwrap_or_default());
        } else {
            // Only what is needed to complete the held message is copied.
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(rest);
            let used = self.step_through(&held, &mut on_message)?;
            held.drain(..used);
            self.held = held;
        }
        Ok(())
    }

    /// Returns how many bytes belong to complete messages (or to one that is skipped).
    fn step_through(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(Received<'_>) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(end) = memchr::memchr(b'\n', rest) else {
                if rest.len() > LINE_BYTES_MAX {
                    return Err("a line without an end".to_owned());
                }
                break;
            };
            let line = rest.get(..end.saturating_sub(1)).unwrap_or_default();
            if !line.starts_with(b"MSG ") && !line.starts_with(b"HMSG ") {
                if line.starts_with(b"-ERR") {
                    return Err(String::from_utf8_lossy(line).into_owned());
                }
                at += end + 1;
                continue;
            }
            let body_bytes = last_number(line).ok_or("a message line without a size")?;
            let whole = end + 1 + body_bytes + 2;
            if whole <= rest.len() {
                let body = rest.get(end + 1..end + 1 + body_bytes).unwrap_or_default();
                on_message(Received { line, body })?;
                at += whole;
            } else if body_bytes <= WHOLE_BODY_BYTES {
                break;
            } else {
                self.skip = whole - rest.len();
                self.skipped = line.to_vec();
                return Ok(bytes.len());
            }
        }
        Ok(at)
    }
}

fn last_number(line: &[u8]) -> Option<usize> {
    let start = memchr::memrchr(b' ', line)? + 1;
    let mut number: usize = 0;
    for byte in line.get(start..)? {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(usize::from(digit))?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::{Scanner, Supply, publish, publish_text};

    fn seen(pieces: &[&[u8]]) -> Result<Vec<String>, String> {
        let mut scanner = Scanner::default();
        let mut messages = Vec::new();
        for piece in pieces {
            scanner.scan(piece, |message| {
                messages.push(format!(
                    "{} sid={} reply={} body={}",
                    String::from_utf8_lossy(message.line),
                    String::from_utf8_lossy(message.sid()),
                    String::from_utf8_lossy(message.reply().unwrap_or(b"-")),
                    String::from_utf8_lossy(message.body.get(..3.min(message.body.len())).unwrap())
                ));
                Ok(())
            })?;
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_counted_however_the_blocks_are_cut() {
        let mut stream = Vec::new();
        stream.extend_from_slice(b"PONG\r\nMSG a 1 5\r\nh\r\nlo\r\nMSG b 2 r 3\r\nabc\r\nPING\r\n");
        stream.extend_from_slice(b"HMSG c 3 r 16 16\r\nNATS/1.0 100 F\r\n\r\n");
        stream.extend_from_slice(b"MSG large 4 10000\r\n");
        stream.resize(stream.len() + 10_000, b'\n');
        stream.extend_from_slice(b"\r\nMSG z 5 0\r\n\r\n");
        for size in [1, 2, 3, 7, 64, 5000, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            let messages = seen(&pieces).unwrap();
            assert_eq!(messages.len(), 5, "pieces of {size}");
            assert_eq!(messages[0], "MSG a 1 5 sid=1 reply=- body=h\r\n");
            assert_eq!(messages[1], "MSG b 2 r 3 sid=2 reply=r body=abc");
            assert_eq!(messages[2], "HMSG c 3 r 16 16 sid=3 reply=r body=NAT");
            assert!(messages[3].starts_with("MSG large 4 10000"));
            assert_eq!(messages[4], "MSG z 5 0 sid=5 reply=- body=");
        }
    }

    #[test]
    fn an_error_of_the_server_ends_the_scan() {
        let error = seen(&[b"MSG a 1 1\r\nx\r\n-ERR 'Slow Consumer'\r\n"]).unwrap_err();
        assert_eq!(error, "-ERR 'Slow Consumer'");
        seen(&[b"MSG a 1 x1\r\n"]).unwrap_err();
    }

    #[test]
    fn a_supply_goes_round() {
        let mut supply =
            Supply::new((0..3).map(|number| publish_text(&number.to_string(), "", "hi")));
        assert_eq!(supply.take(2), (2, 0..26));
        assert_eq!(supply.take(2), (1, 26..39));
        assert_eq!(supply.take(9), (3, 0..39));
    }

    #[test]
    fn publish_lines_say_their_sizes() {
        assert_eq!(publish("s", "r", "", 2), b"PUB s r 2\r\nxx\r\n");
        assert_eq!(
            publish("s", "", "NATS/1.0\r\n\r\n", 1),
            b"HPUB s 12 13\r\nNATS/1.0\r\n\r\nx\r\n"
        );
    }
}
