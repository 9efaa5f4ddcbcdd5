//! The answers to publishers, byte for byte (spec jetstream/02 §1). Written by hand: this is on
//! the path of every acknowledged message.

use bytes::Bytes;

use super::refusal::Refusal;

/// What a publisher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishAnswer {
    Stored {
        sequence: u64,
    },
    Duplicate {
        sequence: u64,
    },
    /// A counter's new value, in decimal.
    Counter {
        sequence: u64,
        value: String,
    },
    /// The last message of a committed batch.
    Batch {
        sequence: u64,
        id: Bytes,
        count: u64,
        /// Its only message was stored before.
        duplicate: bool,
    },
    Refused(Refusal),
    /// A staged message of a batch: nothing at all.
    Empty,
}

/// The part of every answer that belongs to the stream, made once.
#[derive(Clone, Debug)]
pub struct AckPrefix {
    /// `{"stream":"S"[,"domain":"D"],"seq":`
    head: Vec<u8>,
    /// `"stream":"S","seq":0}`: errors name no domain
    tail: Vec<u8>,
}

impl AckPrefix {
    #[must_use]
    pub fn new(stream: &str, domain: &str) -> Self {
        let mut head = b"{\"stream\":".to_vec();
        put_json_string(&mut head, stream.as_bytes());
        let mut tail = head.get(1..).unwrap_or_default().to_vec();
        if !domain.is_empty() {
            head.extend_from_slice(b",\"domain\":");
            put_json_string(&mut head, domain.as_bytes());
        }
        head.extend_from_slice(b",\"seq\":");
        tail.extend_from_slice(b",\"seq\":0}");
        Self { head, tail }
    }

    /// Writes the payload of an answer.
    pub fn encode(&self, answer: &PublishAnswer, out: &mut Vec<u8>) {
        match answer {
            PublishAnswer::Stored { sequence } => {
                self.stored(*sequence, out);
                out.push(b'}');
            }
            PublishAnswer::Duplicate { sequence } => {
                self.stored(*sequence, out);
                out.extend_from_slice(b",\"duplicate\": true}");
            }
            PublishAnswer::Counter { sequence, value } => {
                self.stored(*sequence, out);
                put_field(out, b",\"val\":", value.as_bytes());
                out.push(b'}');
            }
            PublishAnswer::Batch {
                sequence,
                id,
                count,
                duplicate,
            } => {
                self.stored(*sequence, out);
                if *duplicate {
                    out.extend_from_slice(b",\"duplicate\": true");
                }
                put_field(out, b",\"batch\":", id);
                out.extend_from_slice(b",\"count\":");
                out.extend_from_slice(itoa::Buffer::new().format(*count).as_bytes());
                out.push(b'}');
            }
            PublishAnswer::Refused(refusal) => self.refused(refusal, out),
            PublishAnswer::Empty => {}
        }
    }

    fn stored(&self, sequence: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
    }

    fn refused(&self, refusal: &Refusal, out: &mut Vec<u8>) {
        let (error_code, code) = refusal.codes();
        out.extend_from_slice(b"{\"error\":{\"code\":");
        out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
        out.extend_from_slice(b",\"err_code\":");
        out.extend_from_slice(itoa::Buffer::new().format(error_code).as_bytes());
        put_field(out, b",\"description\":", refusal.to_string().as_bytes());
        out.extend_from_slice(b"},");
        out.extend_from_slice(&self.tail);
    }
}

fn put_field(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    put_json_string(out, value);
}

/// A JSON string as Go writes it: `<`, `>`, `&` and control bytes escaped, invalid UTF-8 replaced.
pub fn put_json_string(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for character in String::from_utf8_lossy(text).chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\u{0}'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let code = character as u32;
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    let digit = (code >> shift) & 15;
                    out.push(HEX.get(digit as usize).copied().unwrap_or(b'0'));
                }
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(domain: &str, answer: &PublishAnswer) -> String {
        let mut out = Vec::new();
        AckPrefix::new("S", domain).encode(answer, &mut out);
        String::from_utf8(out).expect("JSON is text")
    }

    // proves: JS-PUB-01
    #[test]
    fn answers_are_the_bytes_that_the_reference_sends() {
        let batch = PublishAnswer::Batch {
            sequence: 14,
            id: Bytes::from_static(b"b"),
            count: 2,
            duplicate: false,
        };
        let counter = PublishAnswer::Counter {
            sequence: 2,
            value: "3".to_owned(),
        };
        let refused = PublishAnswer::Refused(Refusal::WrongLastSequence(0));
        for (domain, answer, expected) in [
            (
                "",
                PublishAnswer::Stored { sequence: 7 },
                r#"{"stream":"S","seq":7}"#,
            ),
            (
                "D",
                PublishAnswer::Stored { sequence: 7 },
                r#"{"stream":"S","domain":"D","seq":7}"#,
            ),
            (
                "",
                PublishAnswer::Duplicate { sequence: 2 },
                r#"{"stream":"S","seq":2,"duplicate": true}"#,
            ),
            ("", counter, r#"{"stream":"S","seq":2,"val":"3"}"#),
            (
                "",
                batch,
                r#"{"stream":"S","seq":14,"batch":"b","count":2}"#,
            ),
            (
                "",
                refused,
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 0"},"stream":"S","seq":0}"#,
            ),
            ("", PublishAnswer::Empty, ""),
        ] {
            assert_eq!(encode(domain, &answer), expected);
        }
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = Vec::new();
        put_json_string(&mut out, b"a\"\\<\x01\xff");
        assert_eq!(out, "\"a\\\"\\\\\\u003c\\u0001\u{fffd}\"".as_bytes());
    }
}
