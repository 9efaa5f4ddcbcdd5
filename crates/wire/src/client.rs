//! The client protocol, client to server (spec core/01 §1.1, §1.2): a parser without I/O that
//! yields borrowed operations. Meaning, permissions and answers are the session's; the bytes the
//! other way are in `encode`.
//!
//! # Buffering
//! The caller owns the buffer and always presents the bytes that were not consumed yet, with what
//! arrived since behind them. [`Step::NeedMore`] says how many of the presented bytes are done
//! with and how many more are certainly needed. An operation must lie in one piece, but never has
//! to be copied for that more than once: while `hint` is small the caller keeps the remainder and
//! reads behind it; when it is large (a payload), the caller moves the remainder into a fresh
//! buffer of `remainder + hint` bytes, reads from the socket straight into that, and shares the
//! payload out of it. State between calls is offsets only; a control line is scanned once however
//! slowly it arrives.

/// What a connection's lines and payloads are held against. It may change between operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserLimits {
    /// Longest argument of a verb, in bytes, without verb and line end. Default 4096.
    pub max_control_line: usize,
    /// Greatest declared size (headers and payload), in bytes. Default 1 MiB.
    pub max_payload: usize,
    /// Whether HPUB may be used: the server supports headers and the client's CONNECT asked.
    pub headers_allowed: bool,
}

impl Default for ParserLimits {
    fn default() -> Self {
        Self {
            max_control_line: 4096,
            max_payload: 1024 * 1024,
            headers_allowed: true,
        }
    }
}

/// One operation of a client, borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `CONNECT {json}`; the JSON is not looked at.
    Connect(&'a [u8]),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `INFO {json}`: tolerated from clients.
    Info(&'a [u8]),
    /// `PUB` or `HPUB`.
    Publish {
        /// As sent; nothing about it is checked.
        subject: &'a [u8],
        /// The reply subject, if there is one.
        reply: Option<&'a [u8]>,
        /// The header block; empty for PUB and for an HPUB with header length 0.
        headers: &'a [u8],
        /// What follows the headers.
        payload: &'a [u8],
        /// From the first size through the line end behind the payload: what a receiver is sent
        /// behind the subjects. Empty if it lies not in one piece or is not spelled as a server
        /// would.
        tail: &'a [u8],
    },
    /// `SUB subject [queue] sid`.
    Subscribe {
        /// As sent; nothing about it is checked.
        subject: &'a [u8],
        /// The queue group, if there is one.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription.
        sid: &'a [u8],
    },
    /// `UNSUB sid [max]`.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// Total deliveries after which it ends; `None` (absent, 0 or unreadable) means now.
        max: Option<u64>,
    },
    /// `+OK`: tolerated from clients.
    Ok,
    /// `-ERR text`: the server logs it and closes.
    Error(&'a [u8]),
}

/// What one call of [`Parser::next`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole operation, and how many bytes of the input it ends after.
    Operation {
        /// The operation.
        operation: Operation<'a>,
        /// Bytes of the input to drop before the next call.
        consumed: usize,
    },
    /// The input ends inside an operation.
    NeedMore {
        /// Bytes of the input to drop; the rest must be presented again, with more behind.
        consumed: usize,
        /// How many more bytes are needed at least; exact once a payload is awaited.
        hint: usize,
    },
}

/// Why a connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line that is no operation, or a payload not followed by CR LF.
    #[error("Unknown Protocol Operation")]
    UnknownOperation,
    /// An argument longer than `max_control_line`.
    #[error("maximum control line exceeded")]
    ControlLineTooLong,
    /// A declared size above `max_payload`; raised before the payload arrives.
    #[error("Maximum Payload Violation")]
    PayloadTooLarge {
        /// The size the client declared, in bytes.
        declared: usize,
    },
    /// PUB with a wrong number of arguments or a bad size.
    #[error("bad arguments for PUB")]
    BadPublish,
    /// HPUB with a wrong number of arguments, a bad size, or headers longer than the total.
    #[error("bad arguments for HPUB")]
    BadHeaderPublish,
    /// HPUB although headers are not in use.
    #[error("message headers not supported")]
    HeadersNotSupported,
    /// SUB with a wrong number of arguments.
    #[error("bad arguments for SUB")]
    BadSubscribe,
    /// UNSUB with a wrong number of arguments.
    #[error("bad arguments for UNSUB")]
    BadUnsubscribe,
}

impl ParseError {
    /// The text of the `-ERR` that goes to the client before closing; `None` closes silently.
    #[must_use]
    pub const fn client_text(self) -> Option<&'static str> {
        match self {
            Self::UnknownOperation => Some("Unknown Protocol Operation"),
            Self::ControlLineTooLong => Some("maximum control line exceeded"),
            Self::PayloadTooLarge { .. } => Some("Maximum Payload Violation"),
            Self::BadPublish
            | Self::BadHeaderPublish
            | Self::HeadersNotSupported
            | Self::BadSubscribe
            | Self::BadUnsubscribe => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Connect,
    Ping,
    Pong,
    Info,
    Publish,
    HeaderPublish,
    Subscribe,
    Unsubscribe,
    Ok,
    Error,
}

impl Verb {
    /// The one verb that can follow from the first bytes, and how it is spelled.
    const fn candidate(first: u8, second: Option<u8>) -> Option<(Self, &'static [u8])> {
        Some(match (first.to_ascii_uppercase(), second) {
            (b'P', Some(b'U' | b'u')) => (Self::Publish, b"PUB"),
            (b'P', Some(b'O' | b'o')) => (Self::Pong, b"PONG"),
            (b'P', _) => (Self::Ping, b"PING"),
            (b'H', _) => (Self::HeaderPublish, b"HPUB"),
            (b'S', _) => (Self::Subscribe, b"SUB"),
            (b'U', _) => (Self::Unsubscribe, b"UNSUB"),
            (b'C', _) => (Self::Connect, b"CONNECT"),
            (b'I', _) => (Self::Info, b"INFO"),
            (b'+', _) => (Self::Ok, b"+OK"),
            (b'-', _) => (Self::Error, b"-ERR"),
            _ => return None,
        })
    }

    /// Whether the rest of the line is ignored.
    const fn ignores_rest(self) -> bool {
        matches!(self, Self::Ping | Self::Pong | Self::Ok)
    }

    /// Whether a blank must follow.
    const fn needs_separator(self) -> bool {
        !self.ignores_rest() && !matches!(self, Self::Connect | Self::Info)
    }
}

/// A piece of the argument, as offsets.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn of(self, input: &[u8]) -> &[u8] {
        input.get(self.start..self.end).unwrap_or_default()
    }

    const fn after(self, offset: usize) -> Self {
        Self {
            start: self.start + offset,
            end: self.end + offset,
        }
    }
}

/// A publish whose control line is read; offsets count from the argument's first byte.
#[derive(Clone, Copy, Debug)]
struct Publish {
    subject: Span,
    reply: Option<Span>,
    headers: Span,
    payload: Span,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a verb, whole or in part.
    Start,
    /// The rest of this line does not matter.
    Ignore(Verb),
    /// The verb is consumed; a separator is still due.
    Separator(Verb),
    /// Verb and separator are consumed; blanks before the argument.
    Blanks(Verb),
    /// The argument begins at the input's first byte; so much of it holds no line end.
    Argument { verb: Verb, scanned: usize },
    /// The argument begins at the input's first byte; its payload is awaited.
    Payload(Publish),
}

/// Parses what one client sends. See the module's text on buffering.
#[derive(Clone, Debug)]
pub struct Parser {
    state: State,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl Parser {
    /// A parser at the start of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::Start,
        }
    }

    /// Whether the parser stands between two operations.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Start)
    }

    /// Reads one operation from `input`.
    ///
    /// # Errors
    /// [`ParseError`]: the connection must be closed, and the parser not be used again.
    #[inline]
    pub fn next<'a>(
        &mut self,
        input: &'a [u8],
        limits: &ParserLimits,
    ) -> Result<Step<'a>, ParseError> {
        if self.is_idle()
            && let Some(step) = whole_publish(input, limits)
        {
            return Ok(step);
        }
        self.next_in_parts(input, limits)
    }

    /// As [`Self::next`], for all but the common case.
    fn next_in_parts<'a>(
        &mut self,
        input: &'a [u8],
        limits: &ParserLimits,
    ) -> Result<Step<'a>, ParseError> {
        let mut position = 0;
        loop {
            let rest = &input[position..];
            match self.state {
                State::Start => match self.verb(rest)? {
                    Some(length) => position += length,
                    None => {
                        return Ok(Step::NeedMore {
                            consumed: position,
                            hint: 1,
                        });
                    }
                },
                State::Ignore(verb) => return Ok(self.ignored(verb, rest).after(position)),
                State::Separator(verb) => match rest.first() {
                    None => {
                        return Ok(Step::NeedMore {
                            consumed: position,
                            hint: 1,
                        });
                    }
                    Some(byte) if is_blank(*byte) => {
                        position += 1;
                        self.state = State::Blanks(verb);
                    }
                    Some(_) => return Err(ParseError::UnknownOperation),
                },
                State::Blanks(verb) => {
                    let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
                    position += blanks;
                    if blanks == rest.len() {
                        return Ok(Step::NeedMore {
                            consumed: position,
                            hint: 1,
                        });
                    }
                    // The argument's first byte is part of it, whatever it is.
                    self.state = State::Argument { verb, scanned: 1 };
                }
                State::Argument { verb, scanned } => {
                    match self.argument(verb, scanned, rest, limits)? {
                        Some(step) => return Ok(step.after(position)),
                        None => {
                            // Only a publish leaves the state to its payload.
                            debug_assert!(matches!(self.state, State::Payload(_)));
                        }
                    }
                }
                State::Payload(publish) => return Ok(self.payload(publish, rest)?.after(position)),
            }
        }
    }

    /// Drops the rest of a line that does not matter.
    fn ignored<'a>(&mut self, verb: Verb, rest: &[u8]) -> Step<'a> {
        let Some(line_end) = memchr::memchr(b'\n', rest) else {
            return Step::NeedMore {
                consumed: rest.len(),
                hint: 1,
            };
        };
        self.state = State::Start;
        let operation = match verb {
            Verb::Ping => Operation::Ping,
            Verb::Pong => Operation::Pong,
            _ => Operation::Ok,
        };
        Step::Operation {
            operation,
            consumed: line_end + 1,
        }
    }

    /// The length of the verb at the start of `rest`, `None` if it is not whole yet.
    fn verb(&mut self, rest: &[u8]) -> Result<Option<usize>, ParseError> {
        let Some(first) = rest.first() else {
            return Ok(None);
        };
        let (verb, spelling) =
            Verb::candidate(*first, rest.get(1).copied()).ok_or(ParseError::UnknownOperation)?;
        let present = rest.len().min(spelling.len());
        if !rest[..present].eq_ignore_ascii_case(&spelling[..present]) {
            return Err(ParseError::UnknownOperation);
        }
        if present < spelling.len() {
            return Ok(None);
        }
        self.state = if verb.ignores_rest() {
            State::Ignore(verb)
        } else if verb.needs_separator() {
            State::Separator(verb)
        } else {
            State::Blanks(verb)
        };
        Ok(Some(present))
    }

    /// Looks for the end of the argument at the start of `rest`; `None` once a payload is awaited.
    fn argument<'a>(
        &mut self,
        verb: Verb,
        scanned: usize,
        rest: &'a [u8],
        limits: &ParserLimits,
    ) -> Result<Option<Step<'a>>, ParseError> {
        let unscanned = rest.get(scanned..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', unscanned) else {
            // A last CR may belong to the line end.
            let length = rest.len() - usize::from(rest.last() == Some(&b'\r'));
            if length > limits.max_control_line {
                return Err(ParseError::ControlLineTooLong);
            }
            self.state = State::Argument {
                verb,
                scanned: rest.len().max(1),
            };
            return Ok(Some(Step::NeedMore {
                consumed: 0,
                hint: 1,
            }));
        };
        let line_end = scanned + found;
        let argument = &rest[..line_end];
        let argument = argument.strip_suffix(b"\r").unwrap_or(argument);
        if argument.len() > limits.max_control_line {
            return Err(ParseError::ControlLineTooLong);
        }
        let operation = match verb {
            Verb::Publish | Verb::HeaderPublish => {
                self.state =
                    State::Payload(publish(verb, argument, limits)?.after_line(line_end + 1));
                return Ok(None);
            }
            Verb::Subscribe => subscribe(argument)?,
            Verb::Unsubscribe => unsubscribe(argument)?,
            Verb::Connect => Operation::Connect(argument),
            Verb::Info => Operation::Info(argument),
            Verb::Error => Operation::Error(argument),
            Verb::Ping => Operation::Ping,
            Verb::Pong => Operation::Pong,
            Verb::Ok => Operation::Ok,
        };
        self.state = State::Start;
        Ok(Some(Step::Operation {
            operation,
            consumed: line_end + 1,
        }))
    }

    /// Takes the payload, if it is whole, of a publish whose argument begins at `rest`.
    fn payload<'a>(&mut self, publish: Publish, rest: &'a [u8]) -> Result<Step<'a>, ParseError> {
        let end = publish.payload.end;
        match rest.get(end..).unwrap_or_default() {
            [b'\r', b'\n', ..] => {}
            [] | [b'\r'] => {
                let hint = (end + 2).saturating_sub(rest.len());
                return Ok(Step::NeedMore { consumed: 0, hint });
            }
            _ => return Err(ParseError::UnknownOperation),
        }
        self.state = State::Start;
        let operation = Operation::Publish {
            subject: publish.subject.of(rest),
            reply: publish.reply.map(|reply| reply.of(rest)),
            headers: publish.headers.of(rest),
            payload: publish.payload.of(rest),
            tail: &[],
        };
        Ok(Step::Operation {
            operation,
            consumed: end + 2,
        })
    }
}

impl Step<'_> {
    const fn after(self, position: usize) -> Self {
        match self {
            Self::Operation {
                operation,
                consumed,
            } => Self::Operation {
                operation,
                consumed: consumed + position,
            },
            Self::NeedMore { consumed, hint } => Self::NeedMore {
                consumed: consumed + position,
                hint,
            },
        }
    }
}

impl Publish {
    /// Moves headers and payload behind the control line, which ends at `line`.
    const fn after_line(mut self, line: usize) -> Self {
        self.headers = self.headers.after(line);
        self.payload = self.payload.after(line);
        self
    }
}

/// The common case at once: a publish that is whole, spelled in capitals, with single blanks. `None`
/// says nothing but that the parser must take the long way.
#[inline(always)] // its many results stay in registers
fn whole_publish<'a>(input: &'a [u8], limits: &ParserLimits) -> Option<Step<'a>> {
    let (start, with_headers) = match input {
        [b'P', b'U', b'B', b' ', ..] => (4, false),
        [b'H', b'P', b'U', b'B', b' ', ..] if limits.headers_allowed => (5, true),
        _ => return None,
    };
    let first = word(input, start)?;
    let second = word_behind(input, first)?;
    let (reply, header_size, total) = if with_headers {
        let third = word_behind(input, second)?;
        if ends_line(input, third) {
            (None, Some(second), third)
        } else {
            (Some(second), Some(third), word_behind(input, third)?)
        }
    } else if ends_line(input, second) {
        (None, None, second)
    } else {
        (Some(second), None, word_behind(input, second)?)
    };
    let total_bytes = size(total.of(input))?;
    let body_at = total.end + 2;
    if !ends_line(input, total)
        || total.end - start > limits.max_control_line
        || total_bytes > limits.max_payload
    {
        return None;
    }
    let whole = input.get(..body_at + total_bytes + 2)?;
    let body = whole.get(body_at..)?.strip_suffix(b"\r\n")?;
    let header_bytes = match header_size {
        Some(digits) => size(digits.of(input))?,
        None => 0,
    };
    let (headers, payload) = body.split_at_checked(header_bytes)?;
    // A server writes no zero before a number, and no size of headers that are not there.
    let is_plain =
        |number: Span| number.end - number.start == 1 || input.get(number.start) != Some(&b'0');
    let is_as_sent =
        is_plain(total) && header_size.is_none_or(|number| is_plain(number) && header_bytes > 0);
    let sizes_at = header_size.unwrap_or(total).start;
    Some(Step::Operation {
        operation: Operation::Publish {
            subject: first.of(input),
            reply: reply.map(|reply| reply.of(input)),
            headers,
            payload,
            tail: whole
                .get(sizes_at..)
                .filter(|_| is_as_sent)
                .unwrap_or_default(),
        },
        consumed: whole.len(),
    })
}

/// The word that begins at `start`, up to the next blank or control character.
#[inline(always)]
fn word(input: &[u8], start: usize) -> Option<Span> {
    let end = next_separator(input, start)?;
    (end > start).then_some(Span { start, end })
}

/// The word one blank behind another.
#[inline(always)]
fn word_behind(input: &[u8], before: Span) -> Option<Span> {
    if input.get(before.end) != Some(&b' ') {
        return None;
    }
    word(input, before.end + 1)
}

#[inline(always)]
fn ends_line(input: &[u8], word: Span) -> bool {
    input.get(word.end..word.end + 2) == Some(b"\r\n")
}

/// Where the first blank or control character at or behind `from` is. Looks at eight bytes at
/// once: the sum borrows from a byte's top bit just if the byte is below 0x21 (or a lower one is).
#[inline(always)]
fn next_separator(input: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const LIMIT: u64 = ONES * 0x21;
    const TOPS: u64 = ONES * 0x80;
    let mut at = from;
    while let Some(eight) = input.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        let found = word.wrapping_sub(LIMIT) & !word & TOPS;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = input.get(at..)?;
    Some(at + rest.iter().position(|byte| *byte <= b' ')?)
}

/// Splits `argument` at the bytes that `separates` accepts, into at most `N` spans. The count may
/// be above `N`: then there were more.
fn split<const N: usize>(argument: &[u8], separates: fn(u8) -> bool) -> ([Span; N], usize) {
    let mut spans = [Span { start: 0, end: 0 }; N];
    let mut count = 0;
    let mut start = None;
    for (at, byte) in argument.iter().enumerate() {
        match (separates(*byte), start) {
            (false, None) => start = Some(at),
            (true, Some(begun)) => {
                if let Some(span) = spans.get_mut(count) {
                    *span = Span {
                        start: begun,
                        end: at,
                    };
                }
                count += 1;
                start = None;
            }
            _ => {}
        }
    }
    if let Some(begun) = start {
        if let Some(span) = spans.get_mut(count) {
            *span = Span {
                start: begun,
                end: argument.len(),
            };
        }
        count += 1;
    }
    (spans, count)
}

/// One to nine decimal digits.
#[inline]
fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0usize, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + usize::from(digit - b'0'))
    })
}

fn publish(verb: Verb, argument: &[u8], limits: &ParserLimits) -> Result<Publish, ParseError> {
    let with_headers = verb == Verb::HeaderPublish;
    if with_headers && !limits.headers_allowed {
        return Err(ParseError::HeadersNotSupported);
    }
    let bad = if with_headers {
        ParseError::BadHeaderPublish
    } else {
        ParseError::BadPublish
    };
    let (spans, count) = split::<4>(argument, is_blank);
    let (subject, reply, header_size, total) = match (with_headers, count) {
        (false, 2) => (spans[0], None, None, spans[1]),
        (false, 3) => (spans[0], Some(spans[1]), None, spans[2]),
        (true, 3) => (spans[0], None, Some(spans[1]), spans[2]),
        (true, 4) => (spans[0], Some(spans[1]), Some(spans[2]), spans[3]),
        _ => return Err(bad),
    };
    let header_size = match header_size {
        Some(span) => size(span.of(argument)).ok_or(bad)?,
        None => 0,
    };
    let total = size(total.of(argument)).ok_or(bad)?;
    if header_size > total {
        return Err(bad);
    }
    if total > limits.max_payload {
        return Err(ParseError::PayloadTooLarge { declared: total });
    }
    let headers = Span {
        start: 0,
        end: header_size,
    };
    Ok(Publish {
        subject,
        reply,
        headers,
        payload: Span {
            start: header_size,
            end: total,
        },
    })
}

/// SUB and UNSUB also take a stray CR or LF for a blank.
const fn is_blank_or_line_end(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn subscribe(argument: &[u8]) -> Result<Operation<'_>, ParseError> {
    let (spans, count) = split::<3>(argument, is_blank_or_line_end);
    let [first, second, third] = spans.map(|span| span.of(argument));
    match count {
        2 => Ok(Operation::Subscribe {
            subject: first,
            queue: None,
            sid: second,
        }),
        3 => Ok(Operation::Subscribe {
            subject: first,
            queue: Some(second),
            sid: third,
        }),
        _ => Err(ParseError::BadSubscribe),
    }
}

fn unsubscribe(argument: &[u8]) -> Result<Operation<'_>, ParseError> {
    let (spans, count) = split::<2>(argument, is_blank_or_line_end);
    let [sid, max] = spans.map(|span| span.of(argument));
    match count {
        1 => Ok(Operation::Unsubscribe { sid, max: None }),
        2 => {
            let max = size(max).filter(|max| *max > 0).map(|max| max as u64);
            Ok(Operation::Unsubscribe { sid, max })
        }
        _ => Err(ParseError::BadUnsubscribe),
    }
}
