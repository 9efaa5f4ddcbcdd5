//! The header `Nats-Stream-Source` of a message that was copied from another stream: which source it
//! came through, its sequence and subject there (spec jetstream/01 §6).
//!
//! `<stream>[:<hash of the API prefix>] <sequence> <filters> <destinations> <subject>[ <identity>]`

use bytes::Bytes;

use crate::model::StreamSource;
use crate::publish::{header_value, parse_number};

const HEADER: &[u8] = b"Nats-Stream-Source";
/// Headers of a publisher that meant something to the origin only.
const STRIPPED: [&[u8]; 3] = [b"Nats-Expected-", b"Nats-Batch-", b"Nats-Request-Info:"];
/// Stands between several filters.
const SEPARATOR: char = '\u{c}';
/// Digits of names derived from hashes.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HASH_LENGTH: usize = 8;

/// A hash as the reference writes it in names: eight digits.
pub(crate) fn short_hash(text: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(text);
    let digits = digest.iter().take(HASH_LENGTH).map(|byte| {
        let digit = DIGITS.get(usize::from(*byte) % DIGITS.len());
        char::from(digit.copied().unwrap_or(b'0'))
    });
    digits.collect()
}

/// What tells a source from the others of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexName {
    /// Stream, and hashes of an external prefix and of the name of a consumer made by the user.
    stream: String,
    filters: String,
    destinations: String,
}

impl IndexName {
    pub(crate) fn new(source: &StreamSource) -> Self {
        let mut stream = source.name.clone();
        if let Some(external) = &source.external {
            stream.push(':');
            stream.push_str(&short_hash(external.api.as_bytes()));
        }
        if let Some(consumer) = &source.consumer {
            stream.push_str(":C=");
            stream.push_str(&short_hash(consumer.name.as_bytes()));
        }
        let all = |text: &str| if text.is_empty() { ">" } else { text }.to_owned();
        let transforms = &source.subject_transforms;
        let joined = |parts: Vec<String>| parts.join(&SEPARATOR.to_string());
        let (filters, destinations) = if transforms.is_empty() {
            (all(&source.filter_subject), ">".to_owned())
        } else {
            (
                joined(transforms.iter().map(|one| all(&one.src)).collect()),
                joined(transforms.iter().map(|one| all(&one.dest)).collect()),
            )
        };
        Self {
            stream,
            filters,
            destinations,
        }
    }

    /// As the key of a position.
    pub(crate) fn key(&self) -> Bytes {
        let Self {
            stream,
            filters,
            destinations,
        } = self;
        Bytes::from(format!("{stream} {filters} {destinations}"))
    }

    fn value(&self, sequence: u64, subject: &[u8], identity: &[u8]) -> Vec<u8> {
        let Self {
            stream,
            filters,
            destinations,
        } = self;
        let mut value = format!("{stream} {sequence} {filters} {destinations} ").into_bytes();
        value.extend_from_slice(subject);
        if !identity.is_empty() {
            value.push(b' ');
            value.extend_from_slice(identity);
        }
        value
    }
}

/// The headers of a copy: what concerned the origin alone goes, where it came from is added.
pub(crate) fn from_source(
    block: &[u8],
    index_name: &IndexName,
    (sequence, subject, identity): (u64, &[u8], &[u8]),
) -> Vec<u8> {
    let mut out = b"NATS/1.0\r\n".to_vec();
    keep_lines(block, &mut out, |line| {
        let tail = line.strip_prefix(HEADER);
        tail.is_none_or(|tail| tail.first() != Some(&b':'))
    });
    out.extend_from_slice(HEADER);
    out.extend_from_slice(b": ");
    out.extend_from_slice(&index_name.value(sequence, subject, identity));
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// The headers of a mirrored message; empty if none is left.
pub(crate) fn from_origin(block: &[u8]) -> Bytes {
    let mut out = b"NATS/1.0\r\n".to_vec();
    let status = out.len();
    keep_lines(block, &mut out, |_| true);
    if out.len() == status {
        return Bytes::new();
    }
    out.extend_from_slice(b"\r\n");
    Bytes::from(out)
}

/// Appends the header lines that mean something outside of the origin and that `keep` lets through.
fn keep_lines(block: &[u8], out: &mut Vec<u8>, keep: impl Fn(&[u8]) -> bool) {
    let first = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
    let mut rest = block.get(first..).unwrap_or_default();
    while let Some(length) = memchr::memchr(b'\n', rest).map(|end| end + 1) {
        let (line, later) = rest.split_at(length);
        rest = later;
        if line == b"\r\n" {
            break;
        }
        let stripped = STRIPPED.iter().any(|prefix| line.starts_with(prefix));
        if !stripped && keep(line) {
            out.extend_from_slice(line);
        }
    }
}

/// Reads from the headers of a stored copy which source it came through, and how far that was.
pub(crate) fn origin_of(block: &[u8]) -> Option<(Bytes, super::SourcePosition)> {
    let value = header_value(block, HEADER)?;
    let mut tokens = value.split(|byte| *byte == b' ');
    let stream = tokens.next()?;
    let sequence = parse_number(tokens.next()?)?;
    let filters = tokens.next()?;
    let destinations = tokens.next()?;
    let _subject = tokens.next()?;
    let identity = tokens.next().unwrap_or_default();
    let key = [stream, filters, destinations].join(&b' ');
    let position = super::SourcePosition {
        sequence,
        identity: Bytes::copy_from_slice(identity),
    };
    Some((Bytes::from(key), position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ExternalStream, SourceConsumer, SubjectTransformConfig};

    fn source() -> StreamSource {
        StreamSource {
            name: "O".to_owned(),
            ..StreamSource::default()
        }
    }

    /// Values read from the reference.
    #[test]
    fn the_header_is_written_as_the_reference_writes_it() {
        let mut filtered = source();
        filtered.subject_transforms = [("o.1", "a.1"), ("o.2", "")]
            .map(|(src, dest)| SubjectTransformConfig {
                src: src.to_owned(),
                dest: dest.to_owned(),
            })
            .to_vec();
        let mut external = source();
        external.external = Some(ExternalStream {
            api: "A.API".to_owned(),
            deliver: "deliver.b".to_owned(),
        });
        let mut durable = source();
        durable.consumer = Some(SourceConsumer {
            name: "C".to_owned(),
            deliver_subject: "my.d".to_owned(),
        });
        for (source, expected) in [
            (&source(), "O 2 > > o.1 id"),
            (&filtered, "O 2 o.1\u{c}o.2 a.1\u{c}> o.1 id"),
            (&external, "O:4trl36Z3 2 > > o.1 id"),
            (&durable, "O:C=jZ6RvVRH 2 > > o.1 id"),
        ] {
            let name = IndexName::new(source);
            let block = from_source(b"", &name, (2, b"o.1", b"id"));
            let text = String::from_utf8(block.clone()).expect("text");
            assert_eq!(
                text,
                format!("NATS/1.0\r\nNats-Stream-Source: {expected}\r\n\r\n")
            );
            let position = crate::origin::SourcePosition {
                sequence: 2,
                identity: Bytes::from_static(b"id"),
            };
            assert_eq!(origin_of(&block), Some((name.key(), position)));
        }
    }

    #[test]
    fn what_concerned_the_origin_alone_goes() {
        let block = b"NATS/1.0\r\nA: 1\r\nNats-Expected-Stream: O\r\nNats-Stream-Source: X 1 > > x\r\nNats-Batch-Id: u\r\nNats-Msg-Id: m\r\n\r\n";
        let copy = from_source(block, &IndexName::new(&source()), (3, b"o", b""));
        let text = String::from_utf8(copy).expect("text");
        assert_eq!(
            text,
            "NATS/1.0\r\nA: 1\r\nNats-Msg-Id: m\r\nNats-Stream-Source: O 3 > > o\r\n\r\n"
        );
        let mirrored = from_origin(block);
        assert_eq!(
            mirrored,
            &b"NATS/1.0\r\nA: 1\r\nNats-Stream-Source: X 1 > > x\r\nNats-Msg-Id: m\r\n\r\n"[..]
        );
        assert_eq!(from_origin(b""), Bytes::new());
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_never_panic(block in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = origin_of(&block);
            let _ = from_origin(&block);
            let _ = from_source(&block, &IndexName::new(&source()), (1, b"a", b"b"));
        }
    }
}
