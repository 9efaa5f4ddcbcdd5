//! The headers of a publish that mean something to the server, found in one pass.
//!
//! Keys are case-sensitive, the first occurrence counts, values lose their leading spaces (spec
//! jetstream/README). Foreign headers cost one look at the beginning of their line.

use bytes::Bytes;

/// Borrowed values of the headers that a publish is checked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishHeaders<'a> {
    pub message_id: Option<&'a [u8]>,
    pub expected_stream: Option<&'a [u8]>,
    pub expected_last_sequence: Option<u64>,
    pub expected_subject_sequence: Option<u64>,
    pub expected_subject: Option<&'a [u8]>,
    pub expected_last_message_id: Option<&'a [u8]>,
    pub rollup: Option<&'a [u8]>,
    pub ttl: Option<&'a [u8]>,
    pub increment: Option<&'a [u8]>,
    pub schedule: Option<&'a [u8]>,
    pub schedule_time_zone: Option<&'a [u8]>,
    pub schedule_ttl: Option<&'a [u8]>,
    pub schedule_rollup: Option<&'a [u8]>,
    pub schedule_target: Option<&'a [u8]>,
    pub schedule_source: Option<&'a [u8]>,
    pub schedule_next: Option<&'a [u8]>,
    pub scheduler: Option<&'a [u8]>,
    pub stream_source: Option<&'a [u8]>,
    pub marker_reason: Option<&'a [u8]>,
    pub batch_id: Option<&'a [u8]>,
    pub batch_sequence: Option<&'a [u8]>,
    pub batch_commit: Option<&'a [u8]>,
    pub required_api_level: Option<&'a [u8]>,
    /// The server added a header on the way that is not stored.
    pub request_info: bool,
    /// One of them is there that the tables of checks look at: all but those that only say where
    /// in a batch the message belongs.
    pub checked: bool,
}

impl<'a> PublishHeaders<'a> {
    /// Finds them in a header block (empty: no headers).
    #[must_use]
    pub fn parse(block: &'a [u8]) -> Self {
        let mut found = Self::default();
        for_each_line(block, |key, value| {
            if let Some(name) = key.strip_prefix(b"Nats-") {
                found.take(name, value);
            }
        });
        found
    }

    /// `name`: the key behind `Nats-`.
    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let (slot, checked) = match name {
            b"Batch-Id" => (&mut self.batch_id, false),
            b"Batch-Sequence" => (&mut self.batch_sequence, false),
            b"Batch-Commit" => (&mut self.batch_commit, false),
            b"Required-Api-Level" => (&mut self.required_api_level, false),
            b"Schedule-TTL" => (&mut self.schedule_ttl, false),
            b"Schedule-Rollup" => (&mut self.schedule_rollup, false),
            b"Schedule-Target" => (&mut self.schedule_target, false),
            b"Schedule-Source" => (&mut self.schedule_source, false),
            b"Request-Info" => {
                self.request_info = true;
                return;
            }
            b"Msg-Id" => (&mut self.message_id, true),
            b"Expected-Stream" => (&mut self.expected_stream, true),
            b"Expected-Last-Sequence" => {
                self.checked = true;
                return take_number(&mut self.expected_last_sequence, value);
            }
            b"Expected-Last-Subject-Sequence" => {
                self.checked = true;
                return take_number(&mut self.expected_subject_sequence, value);
            }
            b"Expected-Last-Subject-Sequence-Subject" => (&mut self.expected_subject, true),
            b"Expected-Last-Msg-Id" => (&mut self.expected_last_message_id, true),
            b"Rollup" => (&mut self.rollup, true),
            b"TTL" => (&mut self.ttl, true),
            b"Incr" => (&mut self.increment, true),
            b"Schedule" => (&mut self.schedule, true),
            b"Schedule-Time-Zone" => (&mut self.schedule_time_zone, true),
            b"Schedule-Next" => (&mut self.schedule_next, true),
            b"Scheduler" => (&mut self.scheduler, true),
            b"Stream-Source" => (&mut self.stream_source, true),
            b"Marker-Reason" => (&mut self.marker_reason, true),
            _ => return,
        };
        self.checked |= checked;
        if slot.is_none() {
            *slot = Some(value);
        }
    }

    /// Any of the headers that make a publish depend on what is stored.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        self.expected_last_sequence.is_some()
            || self.expected_subject_sequence.is_some()
            || self.expected_last_message_id.is_some()
    }

    /// The message id that counts for deduplication: an empty one is none.
    #[must_use]
    pub fn dedup_id(&self) -> Option<&'a [u8]> {
        self.message_id.filter(|id| !id.is_empty())
    }
}

/// Text that is not a number never matches any sequence.
fn take_number(slot: &mut Option<u64>, value: &[u8]) {
    if slot.is_none() && !value.is_empty() {
        *slot = Some(parse_number(value).unwrap_or(u64::MAX));
    }
}

/// Decimal digits only.
#[must_use]
pub fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Calls `visit` with key and value of every header line, without spaces before the value.
#[inline]
pub fn for_each_line<'a>(block: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let mut rest = behind_status(block);
    // Nothing stands behind the blank line.
    while rest.len() > 2
        && let Some(length) = find(b'\n', rest)
    {
        let (line, later) = rest.split_at(length);
        rest = later.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(colon) = find(b':', line) {
            let (key, value) = line.split_at(colon);
            visit(key, without_spaces(value.get(1..).unwrap_or_default()));
        }
    }
}

/// What stands behind the first line of a header block.
fn behind_status(block: &[u8]) -> &[u8] {
    if let Some(rest) = block.strip_prefix(b"NATS/1.0\r\n") {
        return rest;
    }
    let rest = memchr::memchr(b'\n', block).and_then(|end| block.get(end + 1..));
    rest.unwrap_or_default()
}

/// Where `wanted` stands first. For short texts: beats a search that is made for long ones.
#[inline]
fn find(wanted: u8, text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const TOPS: u64 = ONES * 0x80;
    let pattern = ONES * u64::from(wanted);
    let mut at = 0;
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        // Zero where it is; a difference borrows from a byte's top bit just if the byte is zero (or
        // a lower one is).
        let word = u64::from_le_bytes(*eight) ^ pattern;
        let zeros = word.wrapping_sub(ONES) & !word & TOPS;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    Some(at + rest.iter().position(|byte| *byte == wanted)?)
}

fn without_spaces(mut value: &[u8]) -> &[u8] {
    while let Some(rest) = value.strip_prefix(b" ") {
        value = rest;
    }
    value
}

/// The value of one header; used at apply where only one is of interest.
#[must_use]
pub fn header_value<'a>(block: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut rest = behind_status(block);
    while rest.len() > 2 {
        let value = rest
            .strip_prefix(wanted)
            .and_then(|rest| rest.strip_prefix(b":"));
        let length = find(b'\n', rest)?;
        if let Some(value) = value {
            // A key without its value would end behind the line.
            let value = value.get(..length.checked_sub(wanted.len() + 1)?)?;
            return Some(without_spaces(value.strip_suffix(b"\r").unwrap_or(value)));
        }
        rest = rest.get(length + 1..)?;
    }
    None
}

/// The block without a header; empty if none is left.
#[must_use]
pub fn without_header(block: &[u8], unwanted: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(block.len());
    let mut kept = 0;
    let mut at = 0;
    while let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) {
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = rest.get(..length).unwrap_or_default();
        let is_header = at > 0 && line != b"\r\n";
        let is_unwanted = line
            .strip_prefix(unwanted)
            .is_some_and(|tail| tail.first() == Some(&b':'));
        if !(is_header && is_unwanted) {
            kept += usize::from(is_header);
            out.extend_from_slice(line);
        }
        at += length;
    }
    if kept == 0 {
        Bytes::new()
    } else {
        Bytes::from(out)
    }
}

/// The block with a header added at its end (or a new block).
#[must_use]
pub fn with_header(block: &[u8], key: &[u8], value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(block.len() + key.len() + value.len() + 16);
    match block.strip_suffix(b"\r\n") {
        Some(body) => out.extend_from_slice(body),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    out.extend_from_slice(key);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n\r\n");
    Bytes::from(out)
}

/// The block with its status removed (`NATS/1.0 503 …` becomes `NATS/1.0`); empty if no header
/// stands below it.
#[must_use]
pub fn without_status(block: &Bytes) -> Bytes {
    if block.starts_with(b"NATS/1.0\r\n") {
        return block.clone();
    }
    let Some(end) = memchr::memchr(b'\n', block) else {
        return block.clone();
    };
    let rest = block.get(end + 1..).unwrap_or_default();
    if rest.len() <= 2 {
        return Bytes::new();
    }
    let mut out = b"NATS/1.0\r\n".to_vec();
    out.extend_from_slice(rest);
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_headers_are_found_and_the_first_counts() {
        let block = Bytes::from_static(
            b"NATS/1.0\r\nX: y\r\nNats-Msg-Id:  a b\r\nNats-Msg-Id: c\r\nnats-ttl: 3\r\nNats-Expected-Last-Sequence: x\r\n\r\n",
        );
        let headers = PublishHeaders::parse(&block);
        assert_eq!(headers.message_id, Some(b"a b".as_slice()));
        assert!(headers.checked && !headers.request_info);
        assert_eq!(headers.ttl, None);
        assert_eq!(headers.expected_last_sequence, Some(u64::MAX));
        for (key, value) in [
            (&b"X"[..], Some(&b"y"[..])),
            (b"Nats-Msg-Id", Some(b"a b")),
            (b"nats-ttl", Some(b"3")),
            (b"Nats-Msg", None),
            (b"NATS/1.0", None),
        ] {
            assert_eq!(header_value(&block, key), value);
        }
    }

    #[test]
    fn headers_are_removed_added_and_stripped_of_their_status() {
        let block = Bytes::from_static(b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n");
        assert_eq!(
            without_header(&block, b"A"),
            &b"NATS/1.0\r\nB: 2\r\n\r\n"[..]
        );
        assert_eq!(
            without_header(&without_header(&block, b"A"), b"B"),
            Bytes::new()
        );
        assert_eq!(
            with_header(b"", b"C", b"3"),
            &b"NATS/1.0\r\nC: 3\r\n\r\n"[..]
        );
        assert_eq!(
            with_header(&block, b"C", b"3"),
            &b"NATS/1.0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"[..]
        );
        let status = Bytes::from_static(b"NATS/1.0 503 No\r\nA: 1\r\n\r\n");
        assert_eq!(without_status(&status), &b"NATS/1.0\r\nA: 1\r\n\r\n"[..]);
        assert_eq!(
            without_status(&Bytes::from_static(b"NATS/1.0 503\r\n\r\n")),
            Bytes::new()
        );
    }

    fn hostile_block() -> impl Strategy<Value = Vec<u8>> {
        let pieces = ["Nats-TTL", ":", " ", "\r\n", "\n", "NATS/1.0", "x"];
        let piece =
            proptest::sample::select(pieces.map(|piece| piece.as_bytes().to_vec()).to_vec());
        let texts = proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat());
        prop_oneof![texts, proptest::collection::vec(any::<u8>(), 0..200)]
    }

    proptest! {
        #[test]
        fn hostile_blocks_never_panic(block in hostile_block()) {
            let block = Bytes::from(block);
            let headers = PublishHeaders::parse(&block);
            prop_assert_eq!(header_value(&block, b"Nats-TTL"), headers.ttl);
            let _ = without_header(&block, b"A");
            let _ = without_status(&block);
            let _ = with_header(&block, b"A", b"b");
        }
    }
}
