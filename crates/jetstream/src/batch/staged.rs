//! How a staged message is kept: `subject length u16 | headers length u32 | subject | headers |
//! payload`. It never leaves the server run that wrote it.

use bytes::Bytes;

use crate::entry::{DecodeError, Reader, put_u16, put_u32};

/// A message as it waits for its commit: after the header clean-up, before checks and transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StagedMessage {
    pub(super) subject: Bytes,
    pub(super) headers: Bytes,
    pub(super) payload: Bytes,
}

impl StagedMessage {
    pub(super) fn encode(&self) -> Bytes {
        let length = 6 + self.subject.len() + self.headers.len() + self.payload.len();
        let mut out = Vec::with_capacity(length);
        put_u16(
            &mut out,
            u16::try_from(self.subject.len()).unwrap_or(u16::MAX),
        );
        put_u32(
            &mut out,
            u32::try_from(self.headers.len()).unwrap_or(u32::MAX),
        );
        out.extend_from_slice(&self.subject);
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(&self.payload);
        Bytes::from(out)
    }

    pub(super) fn decode(data: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data.clone());
        let subject_length = usize::from(reader.u16()?);
        let headers_length = reader.u32()? as usize;
        let subject = reader.take(subject_length)?;
        let headers = reader.take(headers_length)?;
        let payload = reader.take(data.len() - reader.position())?;
        Ok(Self {
            subject,
            headers,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_message_survives_its_encoding() {
        let message = StagedMessage {
            subject: Bytes::from_static(b"a.b"),
            headers: Bytes::from_static(b"NATS/1.0\r\nA: 1\r\n\r\n"),
            payload: Bytes::from_static(b"hello"),
        };
        let data = message.encode();
        assert_eq!(StagedMessage::decode(&data), Ok(message));
        assert_eq!(
            StagedMessage::decode(&data.slice(..5)),
            Err(DecodeError::Truncated)
        );
    }
}
