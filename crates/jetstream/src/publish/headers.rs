//! The headers of a publish that mean something to the server, found in one pass.
//!
//! Keys are case-sensitive, the first occurrence counts, values lose their leading spaces (spec
//! jetstream/README). Blocks with only foreign headers cost one look at each line's first byte.

use bytes::Bytes;

/// Borrowed values of the headers that a publish is checked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishHeaders {
    pub message_id: Option<Bytes>,
    pub expected_stream: Option<Bytes>,
    pub expected_last_sequence: Option<u64>,
    pub expected_subject_sequence: Option<u64>,
    pub expected_subject: Option<Bytes>,
    pub expected_last_message_id: Option<Bytes>,
    pub rollup: Option<Bytes>,
    pub ttl: Option<Bytes>,
    pub increment: Option<Bytes>,
    pub schedule: Option<Bytes>,
    pub schedule_time_zone: Option<Bytes>,
    pub schedule_next: Option<Bytes>,
    pub scheduler: Option<Bytes>,
    pub stream_source: Option<Bytes>,
    pub marker_reason: Option<Bytes>,
    pub batch_id: Option<Bytes>,
    pub batch_sequence: Option<Bytes>,
    pub batch_commit: Option<Bytes>,
    pub required_api_level: Option<Bytes>,
}

impl PublishHeaders {
    /// Finds them in a header block (empty: no headers).
    #[must_use]
    pub fn parse(block: &Bytes) -> Self {
        let mut found = Self::default();
        for_each_line(block, |key, start, end| {
            if key.starts_with(b"Nats-") {
                found.take(key, &block.slice(start..end));
            }
        });
        found
    }

    fn take(&mut self, key: &[u8], value: &Bytes) {
        let slot = match key {
            b"Nats-Msg-Id" => &mut self.message_id,
            b"Nats-Expected-Stream" => &mut self.expected_stream,
            b"Nats-Expected-Last-Sequence" => {
                return take_number(&mut self.expected_last_sequence, value);
            }
            b"Nats-Expected-Last-Subject-Sequence" => {
                return take_number(&mut self.expected_subject_sequence, value);
            }
            b"Nats-Expected-Last-Subject-Sequence-Subject" => &mut self.expected_subject,
            b"Nats-Expected-Last-Msg-Id" => &mut self.expected_last_message_id,
            b"Nats-Rollup" => &mut self.rollup,
            b"Nats-TTL" => &mut self.ttl,
            b"Nats-Incr" => &mut self.increment,
            b"Nats-Schedule" => &mut self.schedule,
            b"Nats-Schedule-Time-Zone" => &mut self.schedule_time_zone,
            b"Nats-Schedule-Next" => &mut self.schedule_next,
            b"Nats-Scheduler" => &mut self.scheduler,
            b"Nats-Stream-Source" => &mut self.stream_source,
            b"Nats-Marker-Reason" => &mut self.marker_reason,
            b"Nats-Batch-Id" => &mut self.batch_id,
            b"Nats-Batch-Sequence" => &mut self.batch_sequence,
            b"Nats-Batch-Commit" => &mut self.batch_commit,
            b"Nats-Required-Api-Level" => &mut self.required_api_level,
            _ => return,
        };
        if slot.is_none() {
            *slot = Some(value.clone());
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
    pub fn dedup_id(&self) -> Option<&Bytes> {
        self.message_id.as_ref().filter(|id| !id.is_empty())
    }
}

/// Text that is not a number never matches any sequence.
fn take_number(slot: &mut Option<u64>, value: &Bytes) {
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

/// Calls `visit` with key, start and end of the value of every header line.
fn for_each_line(block: &[u8], mut visit: impl FnMut(&[u8], usize, usize)) {
    let Some(first_end) = memchr::memchr(b'\n', block) else {
        return;
    };
    let mut at = first_end + 1;
    while let Some(rest) = block.get(at..) {
        let Some(length) = memchr::memchr(b'\n', rest) else {
            return;
        };
        let line = rest.get(..length).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(colon) = memchr::memchr(b':', line) {
            let (key, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            let spaces = value.iter().take_while(|byte| **byte == b' ').count();
            visit(key, at + colon + 1 + spaces, at + line.len());
        }
        at += length + 1;
    }
}

/// The value of one header, shared; used at apply where only one is of interest.
#[must_use]
pub fn header_value(block: &Bytes, wanted: &[u8]) -> Option<Bytes> {
    memchr::memmem::find(block, wanted)?;
    let mut found = None;
    for_each_line(block, |key, start, end| {
        if found.is_none() && key == wanted {
            found = Some(block.slice(start..end));
        }
    });
    found
}

/// The block without a header; empty if none is left.
#[must_use]
pub fn without_header(block: &Bytes, unwanted: &[u8]) -> Bytes {
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
    let Some(end) = memchr::memchr(b'\n', block) else {
        return block.clone();
    };
    if block.get(..=end) == Some(b"NATS/1.0\r\n".as_slice()) {
        return block.clone();
    }
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
        assert_eq!(headers.message_id.as_deref(), Some(b"a b".as_slice()));
        assert_eq!(headers.ttl, None);
        assert_eq!(headers.expected_last_sequence, Some(u64::MAX));
        assert_eq!(header_value(&block, b"X").as_deref(), Some(b"y".as_slice()));
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

    proptest! {
        #[test]
        fn hostile_blocks_never_panic(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let block = Bytes::from(block);
            let _ = PublishHeaders::parse(&block);
            let _ = without_header(&block, b"A");
            let _ = without_status(&block);
            let _ = with_header(&block, b"A", b"b");
        }
    }
}
