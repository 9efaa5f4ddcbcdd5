//! The client parser against a table of inputs, and against itself when the input arrives in pieces.

use millrace_wire::client::{Operation, ParseError, Parser, ParserLimits, Step};
use proptest::prelude::*;

/// Feeds `input` in pieces of the given sizes (repeated) and prints what comes out.
fn run(input: &[u8], pieces: &[usize], limits: &ParserLimits) -> Vec<String> {
    let mut parser = Parser::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut printed = Vec::new();
    let mut sizes = pieces.iter().cycle();
    let mut fed = 0;
    loop {
        match parser.next(&buffer, limits) {
            Err(error) => {
                printed.push(format!("error {error:?}"));
                return printed;
            }
            Ok(Step::Operation {
                operation,
                consumed,
            }) => {
                printed.push(show(operation));
                buffer.drain(..consumed);
                if !buffer.is_empty() {
                    continue;
                }
            }
            Ok(Step::NeedMore { consumed, hint }) => {
                assert!(hint > 0);
                buffer.drain(..consumed);
            }
        }
        if fed == input.len() {
            return printed;
        }
        let size = (*sizes.next().expect("cycles")).clamp(1, input.len() - fed);
        buffer.extend_from_slice(&input[fed..fed + size]);
        fed += size;
    }
}

fn show(operation: Operation<'_>) -> String {
    let text = |bytes: &[u8]| format!("[{}]", bytes.escape_ascii());
    match operation {
        Operation::Connect(json) => format!("connect {}", text(json)),
        Operation::Info(json) => format!("info {}", text(json)),
        Operation::Error(message) => format!("-err {}", text(message)),
        Operation::Ping => "ping".into(),
        Operation::Pong => "pong".into(),
        Operation::Ok => "+ok".into(),
        Operation::Publish {
            subject,
            reply,
            headers,
            payload,
            ..
        } => {
            let reply = reply.map_or_else(|| "-".into(), text);
            format!(
                "pub {} {reply} {} {}",
                text(subject),
                text(headers),
                text(payload)
            )
        }
        Operation::Subscribe {
            subject,
            queue,
            sid,
        } => {
            let queue = queue.map_or_else(|| "-".into(), text);
            format!("sub {} {queue} {}", text(subject), text(sid))
        }
        Operation::Unsubscribe { sid, max } => format!("unsub {} {max:?}", text(sid)),
    }
}

#[test]
fn operations_agree_with_the_table_at_every_split() {
    let limits = ParserLimits {
        max_control_line: 40,
        max_payload: 20,
        headers_allowed: true,
    };
    for line in include_str!("../testdata/client.txt").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (input, expected) = line.split_once(" => ").expect(line);
        let input = input
            .replace("\\r", "\r")
            .replace("\\n", "\n")
            .replace("\\t", "\t");
        for piece in [input.len().max(1), 1, 2, 3, 7] {
            let actual = run(input.as_bytes(), &[piece], &limits).join("; ");
            assert_eq!(actual, expected, "{line} in pieces of {piece}");
        }
    }
}

#[test]
fn headers_need_permission() {
    let limits = ParserLimits {
        headers_allowed: false,
        ..ParserLimits::default()
    };
    let printed = run(b"HPUB a 0 0\r\n", &[100], &limits);
    assert_eq!(printed, ["error HeadersNotSupported"]);
    assert_eq!(ParseError::HeadersNotSupported.client_text(), None);
}

#[test]
fn a_payload_is_awaited_with_an_exact_hint() {
    let mut parser = Parser::new();
    let step = parser.next(b"PUB a 10\r\n123", &ParserLimits::default());
    assert_eq!(
        step,
        Ok(Step::NeedMore {
            consumed: 4,
            hint: 9
        })
    );
}

#[test]
fn ignored_text_and_blanks_are_not_buffered() {
    let mut parser = Parser::new();
    let limits = ParserLimits {
        max_control_line: 1,
        ..ParserLimits::default()
    };
    for input in [&b"PING"[..], &[b'x'; 100]] {
        let step = parser.next(input, &limits);
        assert_eq!(
            step,
            Ok(Step::NeedMore {
                consumed: input.len(),
                hint: 1
            })
        );
    }
    let step = parser.next(b"\nSUB   ", &limits);
    assert_eq!(
        step,
        Ok(Step::Operation {
            operation: Operation::Ping,
            consumed: 1
        })
    );
    let step = parser.next(b"SUB   ", &limits);
    assert_eq!(
        step,
        Ok(Step::NeedMore {
            consumed: 6,
            hint: 1
        })
    );
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&[u8]] = &[
        b"PUB a 3\r\nxyz\r\n",
        b"pub a.b r 0\n\r\n",
        b"HPUB a 4 5\r\nABCDe\r\n",
        b"SUB a q 1\r\n",
        b"SUB  a\t1 \r\n",
        b"UNSUB 1 5\r\n",
        b"PING\r\n",
        b"pOnG x\r\n",
        b"CONNECT {}\r\n",
        b"CONNECT\n{}\r\n",
        b"+OK\r\n",
        b"-ERR 'x'\r\n",
        b" ",
        b"\r",
        b"\n",
        b"1",
        b"PUB ",
        b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let piece = proptest::sample::select(PIECES);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn pieces_give_what_the_whole_gives(
        input in prop_oneof![any_input(), proptest::collection::vec(any::<u8>(), 0..60)],
        pieces in proptest::collection::vec(1usize..9, 1..6),
    ) {
        let limits = ParserLimits { max_control_line: 30, max_payload: 20, headers_allowed: true };
        let whole = run(&input, &[input.len().max(1)], &limits);
        prop_assert_eq!(run(&input, &pieces, &limits), whole);
    }

    #[test]
    fn a_caller_that_breaks_the_contract_gets_no_panic(inputs: Vec<Vec<u8>>, start in any_input()) {
        let mut parser = Parser::new();
        let limits = ParserLimits::default();
        for cut in 0..start.len() {
            let _ = parser.next(&start[..cut], &limits);
        }
        for input in inputs {
            let _ = parser.next(&input, &limits);
        }
    }
}
