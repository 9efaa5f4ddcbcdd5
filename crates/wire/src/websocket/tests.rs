//! The codec against the rules of the protocol, and against itself.

use proptest::prelude::*;

use super::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn request(lines: &[&str]) -> Vec<u8> {
    let mut text = "GET / HTTP/1.1\r\n".to_owned();
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn upgrade_with(extra: &[&str]) -> Vec<u8> {
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let mut lines = vec![
        "Host: a.test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        &key,
        "Sec-WebSocket-Version: 13",
    ];
    lines.extend_from_slice(extra);
    request(&lines)
}

fn accepted(bytes: &[u8], rules: &UpgradeRules) -> Accepted {
    match read_upgrade(bytes, rules) {
        Progress::Accepted(accepted) => *accepted,
        other => panic!("not accepted: {other:?}"),
    }
}

fn refused(bytes: &[u8], rules: &UpgradeRules) -> (String, String) {
    match read_upgrade(bytes, rules) {
        Progress::Refused { answer, reason } => {
            let text = String::from_utf8(answer).expect("text");
            let status = text.lines().next().unwrap_or_default().to_owned();
            (status, reason)
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// A frame as a client sends it.
fn masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(MASKED | short as u8),
        middle @ 126..=0xffff => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

// proves: WS-03
#[test]
fn an_upgrade_is_answered_in_the_order_of_the_reference() {
    let rules = UpgradeRules {
        compression: true,
        headers: vec![("X-One".to_owned(), "1".to_owned())],
        ..UpgradeRules::default()
    };
    let bytes = upgrade_with(&[
        "Sec-WebSocket-Extensions: foo, permessage-deflate; client_max_window_bits",
        "Nats-No-Masking: true",
    ]);
    let answer = accepted(&bytes, &rules).answer;
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: \
         permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\
         Nats-No-Masking: true\r\nX-One: 1\r\n\r\n"
    );
    for cut in 0..bytes.len() {
        assert_eq!(read_upgrade(&bytes[..cut], &rules), Progress::Incomplete);
    }
}

// proves: WS-02
#[test]
fn requests_are_refused_with_the_status_of_the_reference() {
    let rules = UpgradeRules::default();
    let valid = String::from_utf8(upgrade_with(&[])).expect("text");
    let changed = |from: &str, to: &str| valid.replacen(from, to, 1).into_bytes();
    let bad = "HTTP/1.1 400 Bad Request";
    let cases = [
        (changed("GET / ", "GET /mqtt "), "HTTP/1.1 404 Not Found"),
        (
            changed("GET / ", "GET /a/leafnode "),
            "HTTP/1.1 404 Not Found",
        ),
        (changed("GET", "POST"), "HTTP/1.1 405 Method Not Allowed"),
        (changed("Upgrade: websocket", "Upgrade: other"), bad),
        (changed("Connection: Upgrade", "Connection: close"), bad),
        (changed(KEY, "abc"), bad),
        (changed("Version: 13", "Version: 12"), bad),
        (
            changed("Host: a.test\r\n", ""),
            "HTTP/1.1 400 Bad Request: missing required Host header",
        ),
        (b"garbage\r\n\r\n".to_vec(), bad),
        (
            vec![b'x'; 70_000],
            "HTTP/1.1 431 Request Header Fields Too Large",
        ),
    ];
    for (bytes, status) in cases {
        assert_eq!(refused(&bytes, &rules).0, status);
    }
    let mut early = upgrade_with(&[]);
    early.push(0x82);
    assert_eq!(
        refused(&early, &rules),
        (
            String::new(),
            "client sent data before handshake is complete".to_owned()
        )
    );
}

// proves: WS-13
#[test]
fn origins_are_compared_with_their_ports() {
    let same = UpgradeRules {
        same_origin: true,
        ..UpgradeRules::default()
    };
    let listed = UpgradeRules {
        allowed_origins: vec![allowed_origin("https://b.test").expect("valid")],
        ..UpgradeRules::default()
    };
    let forbidden = "HTTP/1.1 403 Forbidden";
    let with = |origin: &str| upgrade_with(&[&format!("Origin: {origin}")]);
    assert!(!accepted(&upgrade_with(&[]), &same).answer.is_empty());
    assert!(!accepted(&with("http://A.test:80"), &same).answer.is_empty());
    for origin in [
        "https://a.test",
        "http://a.test:81",
        "http://b.test",
        "null",
    ] {
        assert_eq!(refused(&with(origin), &same).0, forbidden, "{origin}");
    }
    assert!(
        !accepted(&with("https://b.test:443"), &listed)
            .answer
            .is_empty()
    );
    assert_eq!(refused(&with("http://b.test"), &listed).0, forbidden);
    for bad in ["ftp://a", "a.test", "http://", "http://a:b"] {
        assert!(allowed_origin(bad).is_err(), "{bad}");
    }
}

// proves: WS-14 WS-15
#[test]
fn cookies_and_the_forwarded_address_are_read() {
    let rules = UpgradeRules {
        jwt_cookie: Some("j".to_owned()),
        user_cookie: Some("u".to_owned()),
        ..UpgradeRules::default()
    };
    let bytes = upgrade_with(&[
        "Cookie: a=b; j=token; u=me",
        "Cookie: t=unused",
        "X-Forwarded-For: 1.2.3.4",
    ]);
    let facts = accepted(&bytes, &rules);
    assert_eq!(
        (&*facts.jwt, &*facts.user, &*facts.token),
        ("token", "me", "")
    );
    assert_eq!(facts.forwarded_for, "1.2.3.4".parse().ok());
    let list = upgrade_with(&["X-Forwarded-For: 1.2.3.4, 5.6.7.8"]);
    assert_eq!(accepted(&list, &rules).forwarded_for, None);
}

// proves: WS-05 WS-06
#[test]
fn broken_frames_end_the_connection_with_the_text_of_the_reference() {
    let cases: [(&[u8], bool, &str); 12] = [
        (&[0x82, 1, b'x'], false, "mask bit missing"),
        (&[0xa2, 0x80], false, "RSV2 and RSV3 must be clear"),
        (
            &[0xc2, 0x80],
            false,
            "compressed frame received without negotiated permessage-deflate",
        ),
        (&[0xc9, 0x80], true, "control frame must not be compressed"),
        (
            &[0x89, 0xfe],
            false,
            "control frame length bigger than maximum allowed of 125 bytes",
        ),
        (
            &[0x09, 0x80],
            false,
            "control frame does not have final bit set",
        ),
        (&[0x80, 0x80], false, "invalid continuation frame"),
        (
            &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80],
            false,
            "new message started before final frame for previous message was received",
        ),
        (
            &[0x42, 0x80, 0, 0, 0, 0, 0xc0, 0x80],
            true,
            "invalid continuation frame",
        ),
        (
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
            false,
            "invalid 64-bit payload length",
        ),
        (&[0x83, 0x80], false, "unknown opcode 3"),
        (
            &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed],
            false,
            "invalid close status code 1005",
        ),
    ];
    for (bytes, is_compressing, text) in cases {
        let mut reader = Reader::new(is_compressing, false, 1024);
        let result = reader.receive(bytes, &mut Vec::new(), &mut Vec::new());
        assert_eq!(result, Err(Violation::Protocol(text.to_owned())));
    }
}

// proves: WS-07
#[test]
fn pings_and_closes_are_answered() {
    let mut reader = Reader::new(false, false, 1024);
    let (mut plain, mut replies) = (Vec::new(), Vec::new());
    let mut bytes = masked(0x02, b"PI", [1, 2, 3, 4]);
    bytes.extend(masked(0x89, b"abc", [9, 8, 7, 6]));
    bytes.extend(masked(0x8a, b"ignored", [9, 8, 7, 6]));
    bytes.extend(masked(0x80, b"NG\r\n", [5, 6, 7, 8]));
    assert_eq!(
        reader.receive(&bytes, &mut plain, &mut replies),
        Ok(Received::Open)
    );
    assert_eq!(
        (&*plain, &*replies),
        (&b"PING\r\n"[..], &b"\x8a\x03abc"[..])
    );
    replies.clear();
    let close = masked(0x88, b"\x03\xe8bye", [5, 6, 7, 8]);
    let received = reader.receive(&close, &mut plain, &mut replies);
    assert_eq!(received, Ok(Received::Closed));
    assert_eq!(replies, b"\x88\x05\x03\xe8bye");
}

// proves: WS-08 WS-09
#[test]
fn compressed_messages_have_limits() {
    let mut compressed = Vec::new();
    deflate::deflate(&vec![b'a'; 2000], &mut compressed);
    let frame = masked(0xc2, &compressed, [1, 2, 3, 4]);
    let mut plain = Vec::new();
    let mut reader = Reader::new(true, false, 2000);
    let result = reader.receive(&frame, &mut plain, &mut Vec::new());
    assert_eq!((result, plain.len()), (Ok(Received::Open), 2000));
    let mut reader = Reader::new(true, false, 1999);
    let result = reader.receive(&frame, &mut Vec::new(), &mut Vec::new());
    assert_eq!(result, Err(Violation::TooLarge));
    let mut reader = Reader::new(true, false, 10);
    let long = masked(0xc2, &[0; 81], [1, 2, 3, 4]);
    let result = reader.receive(&long, &mut Vec::new(), &mut Vec::new());
    assert_eq!(result, Err(Violation::TooLarge));
}

#[test]
fn browsers_get_small_frames() {
    let message = vec![b'x'; 20_000];
    let count = |writer: &mut Writer| {
        let mut out = Vec::new();
        writer.push_message(&message, &mut out);
        let (mut frames, mut at) = (0, 0);
        while at < out.len() {
            let length = match out[at + 1] {
                126 => 2 + usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]])),
                short => usize::from(short),
            };
            at += 2 + length;
            frames += 1;
        }
        frames
    };
    assert_eq!(count(&mut Writer::new(false, false, false)), 1);
    assert_eq!(count(&mut Writer::new(false, true, false)), 5);
}

#[test]
fn a_long_close_text_is_cut() {
    let mut out = Vec::new();
    Writer::default().push_close(1002, &"é".repeat(100), &mut out);
    assert!(out.len() <= 2 + CONTROL_BYTES_MAX && out.ends_with(b"..."));
    assert!(std::str::from_utf8(&out[4..]).is_ok());
}

proptest! {
    #[test]
    fn messages_survive_any_cut(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..8),
        mask in any::<[u8; 4]>(),
        step in 1_usize..50,
        is_compressing in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        for message in &messages {
            if is_compressing {
                let mut compressed = Vec::new();
                deflate::deflate(message, &mut compressed);
                let middle = compressed.len() / 2;
                bytes.extend(masked(0x42, &compressed[..middle], mask));
                bytes.extend(masked(0x80, &compressed[middle..], mask));
            } else {
                bytes.extend(masked(0x81, message, mask));
            }
        }
        let mut reader = Reader::new(is_compressing, false, 1024);
        let (mut plain, mut replies) = (Vec::new(), Vec::new());
        for part in bytes.chunks(step) {
            prop_assert_eq!(reader.receive(part, &mut plain, &mut replies), Ok(Received::Open));
        }
        prop_assert_eq!(plain, messages.concat());
        prop_assert!(replies.is_empty());
    }

    #[test]
    fn what_is_written_is_read_back(
        message in prop::collection::vec(any::<u8>(), 0..9000),
        is_compressing in any::<bool>(),
        is_browser in any::<bool>(),
    ) {
        let mut out = Vec::new();
        Writer::new(is_compressing, is_browser, false).push_message(&message, &mut out);
        let mut reader = Reader::new(is_compressing, true, 9000);
        let mut plain = Vec::new();
        prop_assert_eq!(reader.receive(&out, &mut plain, &mut Vec::new()), Ok(Received::Open));
        prop_assert_eq!(plain, message);
    }

    #[test]
    fn garbage_neither_panics_nor_grows(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut reader = Reader::new(true, true, 500);
        let (mut plain, mut replies) = (Vec::new(), Vec::new());
        let _ = reader.receive(&bytes, &mut plain, &mut replies);
        let _ = read_upgrade(&bytes, &UpgradeRules::default());
        prop_assert!(replies.len() <= 3000 * 2);
    }
}

#[test]
fn a_request_in_pieces_is_looked_at_a_few_times_and_answered_as_if_it_came_whole() {
    let rules = UpgradeRules::default();
    let cookies = "x".repeat(40_000);
    let whole = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Cookie: a={cookies}\r\n\r\n"
    );
    let expected = read_upgrade(whole.as_bytes(), &rules);
    assert!(matches!(expected, Progress::Accepted(_)));
    let mut reader = UpgradeReader::default();
    let (last, rest) = whole.as_bytes().split_last().expect("bytes");
    for byte in rest {
        assert_eq!(reader.push(&[*byte], &rules), Progress::Incomplete);
    }
    assert_eq!(reader.push(&[*last], &rules), expected);
    // What is no request is refused long before it would be whole.
    let mut reader = UpgradeReader::default();
    let refused = (0..300).position(|_| reader.push(b"\x16", &rules) != Progress::Incomplete);
    assert!(refused.is_some_and(|count| count < 64), "{refused:?}");
}
