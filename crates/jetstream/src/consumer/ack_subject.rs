//! Ack subjects: `$JS.ACK.…` in the old and the new form (spec jetstream/04 §3).

/// The parts of an ack subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSubject<'a> {
    /// Stream name.
    pub stream: &'a [u8],
    /// Consumer name.
    pub consumer: &'a [u8],
    /// Delivery count, from 1.
    pub deliveries: u64,
    /// Stream sequence.
    pub stream_sequence: u64,
    /// Consumer sequence.
    pub consumer_sequence: u64,
}

/// Reads an ack subject of 9 tokens, or of 11 and more (with domain and account hash).
#[must_use]
pub fn parse_ack_subject(subject: &[u8]) -> Option<AckSubject<'_>> {
    const LONG_FORM_TOKENS: usize = 11;
    let mut tokens = [b"".as_slice(); LONG_FORM_TOKENS];
    let mut count = 0;
    let mut start = 0;
    for end in memchr::memchr_iter(b'.', subject).chain([subject.len()]) {
        if let (Some(place), Some(token)) = (tokens.get_mut(count), subject.get(start..end)) {
            *place = token;
        }
        count += 1;
        start = end + 1;
    }
    let tokens = match count {
        9 => tokens.get(2..)?,
        LONG_FORM_TOKENS.. => tokens.get(4..)?,
        _ => return None,
    };
    let &[
        stream,
        consumer,
        deliveries,
        stream_sequence,
        consumer_sequence,
        ..,
    ] = tokens
    else {
        return None;
    };
    Some(AckSubject {
        stream,
        consumer,
        deliveries: number(deliveries)?,
        stream_sequence: number(stream_sequence)?,
        consumer_sequence: number(consumer_sequence)?,
    })
}

fn number(token: &[u8]) -> Option<u64> {
    if token.is_empty() {
        return None;
    }
    token.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Writes ack subjects without allocating per message.
#[derive(Debug, Default)]
pub(super) struct AckSubjectWriter {
    /// `$JS.ACK.<stream>.<consumer>`.
    prefix: Vec<u8>,
    subject: Vec<u8>,
}

impl AckSubjectWriter {
    pub(super) fn new(stream: &str, consumer: &str) -> Self {
        let prefix = format!("$JS.ACK.{stream}.{consumer}").into_bytes();
        Self {
            prefix,
            subject: Vec::new(),
        }
    }

    /// The subject for one delivery.
    pub(super) fn write(
        &mut self,
        deliveries: u64,
        stream_sequence: u64,
        consumer_sequence: u64,
        time_ns: i64,
        num_pending: u64,
    ) {
        self.subject.clear();
        self.subject.extend_from_slice(&self.prefix);
        let mut digits = itoa::Buffer::new();
        for number in [deliveries, stream_sequence, consumer_sequence] {
            self.subject.push(b'.');
            self.subject
                .extend_from_slice(digits.format(number).as_bytes());
        }
        self.subject.push(b'.');
        self.subject
            .extend_from_slice(digits.format(time_ns).as_bytes());
        self.subject.push(b'.');
        self.subject
            .extend_from_slice(digits.format(num_pending).as_bytes());
    }

    /// What was written last.
    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: JS-CON-22
    #[test]
    fn both_forms_are_read_and_the_old_one_is_written() {
        let mut writer = AckSubjectWriter::new("S", "C");
        writer.write(2, 30, 44, 1_700_000_000_000_000_000, 5);
        assert_eq!(
            writer.subject(),
            b"$JS.ACK.S.C.2.30.44.1700000000000000000.5"
        );
        let expected = AckSubject {
            stream: b"S",
            consumer: b"C",
            deliveries: 2,
            stream_sequence: 30,
            consumer_sequence: 44,
        };
        assert_eq!(parse_ack_subject(writer.subject()), Some(expected));
        assert_eq!(
            parse_ack_subject(b"$JS.ACK._.hash.S.C.2.30.44.17.5"),
            Some(expected)
        );
        assert_eq!(
            parse_ack_subject(b"$JS.ACK.hub.hash.S.C.2.30.44.17.5.more.tokens"),
            Some(expected)
        );
        for bad in [
            b"$JS.ACK.S.C.2.30.44.17".as_slice(),
            b"$JS.ACK.S.C.x.30.44.17.5",
            b"$JS.ACK.S.C.2..44.17.5",
            b"$JS.ACK.S.C.2.+30.44.17.5",
            b"$JS.ACK.S.C.2.30.99999999999999999999.17.5",
            b"",
        ] {
            assert_eq!(parse_ack_subject(bad), None);
        }
    }
}
