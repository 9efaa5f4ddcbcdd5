//! Status messages to clients, byte for byte (spec jetstream/04 §5 and §6).

/// The part of a pull request that was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unused {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A header block with only a status line.
pub(super) fn status(line: &str) -> Vec<u8> {
    format!("NATS/1.0 {line}\r\n\r\n").into_bytes()
}

/// A status with what a pull request did not use.
pub(super) fn status_with_unused(line: &str, unused: Unused) -> Vec<u8> {
    format!(
        "NATS/1.0 {line}\r\nNats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}\r\n\r\n",
        unused.messages, unused.bytes
    )
    .into_bytes()
}

/// The heartbeat of a push consumer. `stalled`: the flow control subject that waits for an answer.
pub(super) fn push_heartbeat(consumer: u64, stream: u64, stalled: Option<&str>) -> Vec<u8> {
    let mut text = format!(
        "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {stream}\r\n"
    );
    if let Some(subject) = stalled {
        text.push_str("Nats-Consumer-Stalled: ");
        text.push_str(subject);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Adds a header line to a block (which may be empty), writing the result into `out`.
pub(super) fn with_header(block: &[u8], name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    match block.strip_suffix(b"\r\n") {
        Some(open) => out.extend_from_slice(open),
        None => out.extend_from_slice(b"NATS/1.0\r\n"),
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_added_to_a_block_or_make_one() {
        let mut out = Vec::new();
        with_header(b"", "Nats-Msg-Size", b"5", &mut out);
        assert_eq!(out, b"NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
        with_header(b"NATS/1.0\r\nA: b\r\n\r\n", "Nats-Pin-Id", b"x", &mut out);
        assert_eq!(out, b"NATS/1.0\r\nA: b\r\nNats-Pin-Id: x\r\n\r\n");
    }
}
