//! Header blocks (spec core/01 §1.7): `NATS/1.0`, an optional status, `Key: Value` lines, a blank
//! line. Lookups are exact and tolerant of garbage: a block is forwarded as it came and never
//! validated. What a header means is decided by whoever asks for it.

use memchr::memmem;

/// The first line of a block without a status.
const PREAMBLE: &[u8] = b"NATS/1.0";
const CRLF: &[u8] = b"\r\n";

/// The value of the first line with exactly this key, without leading spaces.
#[must_use]
pub fn find<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let line = line_of(block, key)?;
    Some(value_of(line, key.len()))
}

/// Whether a line with exactly this key exists.
#[must_use]
pub fn contains(block: &[u8], key: &[u8]) -> bool {
    line_of(block, key).is_some()
}

/// All `(key, value)` lines in order. Lines without a colon are left out.
pub fn iter(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    Lines {
        rest: after_first_line(block),
    }
    .filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((&line[..colon], value_of(line, colon)))
    })
}

/// A block's status: `NATS/1.0 503 Description`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// The number after the version.
    pub code: u16,
    /// The rest of the line; may be empty.
    pub description: &'a [u8],
}

/// The status in the first line, if there is one.
#[must_use]
pub fn status(block: &[u8]) -> Option<Status<'_>> {
    let end = memmem::find(block, CRLF).unwrap_or(block.len());
    let rest = block[..end].strip_prefix(PREAMBLE)?.trim_ascii();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let code = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some(Status {
        code,
        description: rest[digits..].trim_ascii(),
    })
}

/// `block` with exactly one line for `key`: earlier ones are removed, the new one comes last. An
/// empty block becomes one with a first line.
#[must_use]
pub fn set(block: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let kept = remove(block, key);
    let body = if kept.is_empty() {
        b"NATS/1.0\r\n\r\n".as_slice()
    } else {
        &kept
    };
    let body = body.strip_suffix(CRLF).unwrap_or(body);
    let mut out = Vec::with_capacity(body.len() + key.len() + value.len() + 6);
    out.extend_from_slice(body);
    for part in [key, b": ", value, CRLF, CRLF] {
        out.extend_from_slice(part);
    }
    out
}

/// `block` without the lines of `key`; empty if nothing but the first line is left.
#[must_use]
pub fn remove(block: &[u8], key: &[u8]) -> Vec<u8> {
    remove_where(block, |candidate| candidate == key)
}

/// `block` without the lines whose key `unwanted` accepts. If that leaves nothing but a first line
/// without a status, the result is empty.
#[must_use]
pub fn remove_where(block: &[u8], unwanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let rest = after_first_line(block);
    let mut out = Vec::with_capacity(block.len());
    out.extend_from_slice(&block[..block.len() - rest.len()]);
    let mut lines = Lines { rest };
    let mut removed = false;
    loop {
        let before = lines.rest;
        let Some(line) = lines.next() else {
            out.extend_from_slice(before);
            break;
        };
        let drop = memchr::memchr(b':', line).is_some_and(|colon| unwanted(&line[..colon]));
        if drop {
            removed = true;
        } else {
            out.extend_from_slice(&before[..before.len() - lines.rest.len()]);
        }
    }
    if removed && out == b"NATS/1.0\r\n\r\n" {
        out.clear();
    }
    out
}

/// Builds a block for a message of the server's own.
#[derive(Clone, Debug)]
pub struct HeaderBuilder {
    block: Vec<u8>,
    started: bool,
}

impl Default for HeaderBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl HeaderBuilder {
    /// A block with nothing but its first line.
    #[must_use]
    pub fn new() -> Self {
        Self {
            block: PREAMBLE.to_vec(),
            started: false,
        }
    }

    /// Puts a status into the first line. Must come before any [`Self::add`]; an empty
    /// description is left out.
    #[must_use]
    pub fn status(mut self, code: u16, description: &str) -> Self {
        debug_assert!(!self.started, "the status belongs to the first line");
        self.block.push(b' ');
        self.block.extend_from_slice(code.to_string().as_bytes());
        if !description.is_empty() {
            self.block.push(b' ');
            self.block.extend_from_slice(description.as_bytes());
        }
        self
    }

    /// Adds a line. Neither key nor value may hold a line end.
    #[must_use]
    pub fn add(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        if !self.started {
            self.block.extend_from_slice(CRLF);
            self.started = true;
        }
        for part in [key.as_ref(), b": ", value.as_ref(), CRLF] {
            self.block.extend_from_slice(part);
        }
        self
    }

    /// The block with its final blank line.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if !self.started {
            self.block.extend_from_slice(CRLF);
        }
        self.block.extend_from_slice(CRLF);
        self.block
    }
}

/// The line of `key` (from the key on, without its line end): preceded by CR LF, followed by a
/// colon.
fn line_of<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    if key.is_empty() {
        return None;
    }
    let mut from = 0;
    while let Some(found) = memmem::find(&block[from..], key) {
        let at = from + found;
        let end = at + key.len();
        if block[..at].ends_with(CRLF) && block.get(end) == Some(&b':') {
            let length = memmem::find(&block[end..], CRLF).unwrap_or(block.len() - end);
            return Some(&block[at..end + length]);
        }
        from = at + 1;
    }
    None
}

/// What follows the colon at `colon`, without leading spaces.
fn value_of(line: &[u8], colon: usize) -> &[u8] {
    let value = line.get(colon + 1..).unwrap_or_default();
    let spaces = value.iter().take_while(|byte| **byte == b' ').count();
    &value[spaces..]
}

fn after_first_line(block: &[u8]) -> &[u8] {
    memmem::find(block, CRLF).map_or(&[], |end| &block[end + 2..])
}

/// The lines that end in CR LF, without it; `rest` is what follows the last one returned.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = memmem::find(self.rest, CRLF)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 2..];
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: &[u8] = b"NATS/1.0\r\nA: 1\r\nNats-Msg-Id:   x y \r\nA:2\r\nmy-A: 3\r\n\r\n";

    #[test]
    fn lookups_are_exact_and_take_the_first() {
        assert_eq!(find(BLOCK, b"A"), Some(&b"1"[..]));
        assert_eq!(find(BLOCK, b"Nats-Msg-Id"), Some(&b"x y "[..]));
        assert_eq!(find(BLOCK, b"nats-msg-id"), None);
        assert_eq!(find(BLOCK, b"Msg-Id"), None);
        assert_eq!(find(BLOCK, b"NATS/1.0"), None);
        let keys: Vec<&[u8]> = iter(BLOCK).map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"A"[..], b"Nats-Msg-Id", b"A", b"my-A"]);
    }

    #[test]
    fn a_value_that_looks_like_a_key_is_none() {
        assert_eq!(
            find(b"NATS/1.0\r\nX: A: 1\r\nA: 2\r\n\r\n", b"A"),
            Some(&b"2"[..])
        );
    }

    #[test]
    fn setting_and_removing_keep_the_rest_as_it_was() {
        let set_block = set(BLOCK, b"A", b"9");
        let expected = "NATS/1.0\r\nNats-Msg-Id:   x y \r\nmy-A: 3\r\nA: 9\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&set_block), expected);
        assert_eq!(set(b"", b"K", b"v"), b"NATS/1.0\r\nK: v\r\n\r\n");
        assert_eq!(remove(b"NATS/1.0\r\nK: v\r\n\r\n", b"K"), b"");
        assert_eq!(
            remove(b"NATS/1.0 100\r\nK: v\r\n\r\n", b"K"),
            b"NATS/1.0 100\r\n\r\n"
        );
        let left = remove_where(BLOCK, |key| key.starts_with(b"Nats-"));
        assert_eq!(left, b"NATS/1.0\r\nA: 1\r\nA:2\r\nmy-A: 3\r\n\r\n");
    }

    #[test]
    fn built_blocks_and_their_status_are_byte_exact() {
        let plain = HeaderBuilder::new().status(503, "").finish();
        assert_eq!(plain, b"NATS/1.0 503\r\n\r\n");
        let block = HeaderBuilder::new()
            .status(409, "Leadership Change")
            .add("K", "v")
            .finish();
        assert_eq!(block, b"NATS/1.0 409 Leadership Change\r\nK: v\r\n\r\n");
        assert_eq!(
            status(&block),
            Some(Status {
                code: 409,
                description: b"Leadership Change"
            })
        );
        assert_eq!(
            status(&plain),
            Some(Status {
                code: 503,
                description: b""
            })
        );
        assert_eq!(status(BLOCK), None);
        assert_eq!(HeaderBuilder::new().finish(), b"NATS/1.0\r\n\r\n");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(block in "[ABab: \r\n]{0,40}", key in "[AB]{0,2}") {
            let (block, key) = (block.as_bytes(), key.as_bytes());
            let _ = (find(block, key), status(block), iter(block).count());
            let _ = (remove(block, key), set(block, key, b"v"));
        }

        #[test]
        fn what_is_set_is_found_once(
            lines in proptest::collection::vec(("[A-C]{1,2}", "[a-z:]{0,4}"), 0..6),
            key in "[A-C]{1,2}",
            value in "[a-z]{0,4}",
        ) {
            let block = lines.iter().fold(HeaderBuilder::new(), |b, (k, v)| b.add(k, v)).finish();
            let changed = set(&block, key.as_bytes(), value.as_bytes());
            prop_assert_eq!(find(&changed, key.as_bytes()), Some(value.as_bytes()));
            prop_assert_eq!(iter(&changed).filter(|(k, _)| *k == key.as_bytes()).count(), 1);
            let others = |block: &[u8]| iter(block).filter(|(k, _)| *k != key.as_bytes()).map(|(k, v)| (k.to_vec(), v.to_vec())).collect::<Vec<_>>();
            prop_assert_eq!(others(&changed), others(&block));
            prop_assert!(!contains(&remove(&changed, key.as_bytes()), key.as_bytes()));
        }
    }
}
