//! Compressed answers to system requests: the header of a request says what its sender can read.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_archive::s2::snappy_stream;

/// How an answer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// S2 is asked for too; its readers take snappy.
    Snappy,
    Gzip,
    /// Something was asked for that is not known.
    Identity,
}

impl Encoding {
    /// What a request's headers ask for; `None`: nothing.
    pub(super) fn wanted(headers: &[u8]) -> Option<Self> {
        let text = accepted(headers)?.to_ascii_lowercase();
        Some(if text.contains("snappy") || text.contains("s2") {
            Self::Snappy
        } else if text.contains("gzip") {
            Self::Gzip
        } else {
            Self::Identity
        })
    }

    /// The header block of the answer.
    pub(super) const fn headers(self) -> &'static [u8] {
        match self {
            Self::Snappy => b"NATS/1.0\r\nContent-Encoding: snappy\r\n\r\n",
            Self::Gzip => b"NATS/1.0\r\nContent-Encoding: gzip\r\n\r\n",
            Self::Identity => b"NATS/1.0\r\nContent-Encoding: identity\r\n\r\n",
        }
    }

    pub(super) fn encode(self, payload: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Snappy => snappy_stream(&payload),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                // Writing to a Vec cannot fail.
                let _ = encoder.write_all(&payload);
                encoder.finish().unwrap_or_default()
            }
            Self::Identity => payload,
        }
    }
}

/// The value of `Accept-Encoding`.
fn accepted(headers: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(headers).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"))?;
    Some(value.trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_is_asked_for_is_found_in_the_headers() {
        let wanted = |value: &str| {
            Encoding::wanted(
                format!("NATS/1.0\r\nA: b\r\nAccept-Encoding: {value}\r\n\r\n").as_bytes(),
            )
        };
        assert_eq!(wanted("gzip"), Some(Encoding::Gzip));
        assert_eq!(wanted("gzip, S2"), Some(Encoding::Snappy));
        assert_eq!(wanted("snappy;q=1"), Some(Encoding::Snappy));
        assert_eq!(wanted("zstd"), Some(Encoding::Identity));
        assert_eq!(Encoding::wanted(b""), None);
    }

    #[test]
    fn what_is_compressed_can_be_read_again() {
        let text = "a text that says the same, the same, the same "
            .repeat(5_000)
            .into_bytes();
        let packed = Encoding::Gzip.encode(text.clone());
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut read)
            .unwrap();
        assert_eq!(read, text);
        let packed = Encoding::Snappy.encode(text.clone());
        assert!(packed.len() < text.len() / 4);
        let mut decoder = millrace_archive::s2::Decoder::default();
        decoder.push(&packed);
        let mut read = Vec::new();
        while let Some(block) = decoder.next_block().unwrap() {
            read.extend_from_slice(&block);
        }
        assert_eq!(read, text);
    }
}
