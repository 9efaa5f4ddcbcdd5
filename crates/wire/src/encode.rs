//! The client protocol, server to client (spec core/01 §1.2): writes frames into a buffer.
//! Payloads are appended by the caller, or shared and sent from where they lie.

use bytes::BufMut;

/// `PING`.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK`.
pub const OK: &[u8] = b"+OK\r\n";
/// Ends every line and payload.
pub const CRLF: &[u8] = b"\r\n";

/// `-ERR 'text'`. Texts are those of spec core/01 §1.6, without the quotes.
pub fn error(out: &mut impl BufMut, text: &str) {
    out.put_slice(b"-ERR '");
    out.put_slice(text.as_bytes());
    out.put_slice(b"'\r\n");
}

/// `INFO {json} `: like the reference with a blank before the line end.
pub fn info(out: &mut impl BufMut, json: &[u8]) {
    out.put_slice(b"INFO ");
    out.put_slice(json);
    out.put_slice(b" \r\n");
}

/// The control line of a message: `MSG` if `header_length` is 0, else `HMSG`.
///
/// `total_length` counts headers and payload, in bytes. `reply` is left out if `None`; an empty
/// one leaves two blanks, as internal senders of the reference do.
pub fn message_head(
    out: &mut impl BufMut,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    header_length: usize,
    total_length: usize,
) {
    out.put_slice(if header_length == 0 {
        b"MSG "
    } else {
        b"HMSG "
    });
    out.put_slice(subject);
    out.put_u8(b' ');
    out.put_slice(sid);
    out.put_u8(b' ');
    if let Some(reply) = reply {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    let mut digits = itoa::Buffer::new();
    if header_length != 0 {
        out.put_slice(digits.format(header_length).as_bytes());
        out.put_u8(b' ');
    }
    out.put_slice(digits.format(total_length).as_bytes());
    out.put_slice(CRLF);
}

/// A whole message with its payload. Empty `headers` make it a `MSG`.
pub fn message(
    out: &mut impl BufMut,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    headers: &[u8],
    payload: &[u8],
) {
    message_head(
        out,
        subject,
        sid,
        reply,
        headers.len(),
        headers.len() + payload.len(),
    );
    out.put_slice(headers);
    out.put_slice(payload);
    out.put_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: PRO-01
    #[test]
    fn frames_are_byte_exact() {
        let mut out = Vec::new();
        message(&mut out, b"a.b", b"7", None, b"", b"hi");
        message(&mut out, b"a", b"7", Some(b"r"), b"NATS/1.0\r\n\r\n", b"hi");
        message(&mut out, b"a", b"7", Some(b""), b"", b"");
        error(&mut out, "Invalid Subject");
        info(&mut out, b"{}");
        let expected = "MSG a.b 7 2\r\nhi\r\nHMSG a 7 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n\
                        MSG a 7  0\r\n\r\n-ERR 'Invalid Subject'\r\nINFO {} \r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
