//! The reply subject of a fast ingest message:
//! `<prefix>.<batch id>.<flow>.<gap>.<batch sequence>.<operation>.$FI`, read from its end.

/// What ends such a subject.
const SUFFIX: &[u8] = b".$FI";
/// Messages per answer if the client does not say, and at most.
const FLOW_DEFAULT: u64 = 10;
const FLOW_MAX: u64 = 65_535;

/// What a message is in its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOperation {
    Start,
    Append,
    /// Store it and end the batch.
    Commit,
    /// End the batch without it.
    End,
    /// Where do we stand?
    Ping,
}

/// A reply subject that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastAddress<'a> {
    pub id: &'a [u8],
    /// Most messages between two answers.
    pub flow: u64,
    /// A message that is lost, or refused, does not end the batch.
    pub gaps_pass: bool,
    pub sequence: u64,
    pub operation: FastOperation,
}

/// Whether a reply subject asks for fast ingest at all.
#[must_use]
pub fn is_fast(reply: &[u8]) -> bool {
    reply.ends_with(SUFFIX)
}

impl<'a> FastAddress<'a> {
    /// Reads a reply subject. `None`: it breaks the pattern.
    #[must_use]
    pub fn parse(reply: &'a [u8]) -> Option<Self> {
        let mut tokens = reply.strip_suffix(SUFFIX)?.rsplitn(6, |byte| *byte == b'.');
        let operation = match tokens.next()? {
            b"0" => FastOperation::Start,
            b"1" => FastOperation::Append,
            b"2" => FastOperation::Commit,
            b"3" => FastOperation::End,
            b"4" => FastOperation::Ping,
            _ => return None,
        };
        let sequence = number(tokens.next()?).filter(|sequence| *sequence > 0)?;
        let gaps_pass = match tokens.next()? {
            b"ok" => true,
            b"fail" => false,
            _ => return None,
        };
        let flow = number(tokens.next()?).filter(|flow| *flow > 0);
        let id = tokens.next()?;
        let prefix = tokens.next()?;
        let fits = match operation {
            FastOperation::Start => sequence == 1,
            FastOperation::Append | FastOperation::End => sequence > 1,
            FastOperation::Commit | FastOperation::Ping => true,
        };
        (fits && !prefix.is_empty() && !id.is_empty()).then_some(Self {
            id,
            flow: flow.unwrap_or(FLOW_DEFAULT).min(FLOW_MAX),
            gaps_pass,
            sequence,
            operation,
        })
    }
}

/// Decimal digits and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // proves: JS-FI-01
    #[test]
    fn the_pattern_is_the_references() {
        let read = FastAddress::parse(b"_INBOX.x.y.b1.4.ok.7.1.$FI").expect("an address");
        assert_eq!((read.id, read.flow, read.sequence), (&b"b1"[..], 4, 7));
        assert!(read.gaps_pass && read.operation == FastOperation::Append);
        for (text, flow) in [
            ("x.b.0.fail.1.0.$FI", 10),
            ("x.b.-5.fail.1.0.$FI", 10),
            ("x.b.abc.fail.1.0.$FI", 10),
            ("x.b.70000.fail.01.0.$FI", 65_535),
        ] {
            let read = FastAddress::parse(text.as_bytes()).expect(text);
            assert_eq!((read.flow, read.gaps_pass), (flow, false), "{text}");
        }
        for bad in [
            "x.b.10.ok.1.9.$FI",
            "x.b.10.ok.0.1.$FI",
            "x.b.10.ok.a.0.$FI",
            "x.b.10.ok.2.0.$FI",
            "x.b.10.ok.1.1.$FI",
            "x.b.10.ok.1.3.$FI",
            "x.b.10.zz.1.0.$FI",
            "10.ok.1.0.$FI",
            "b.10.ok.1.0.$FI",
            ".b.10.ok.1.0.$FI",
            "x.b.10.ok.+1.0.$FI",
            "x.b.10.ok.99999999999999999999.1.$FI",
            "x.b.10.ok.1.0",
        ] {
            assert_eq!(FastAddress::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn hostile_subjects_never_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reply = text;
            reply.extend_from_slice(SUFFIX);
            let _ = FastAddress::parse(&reply);
        }
    }
}
