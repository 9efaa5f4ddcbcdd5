//! The client protocol: bytes to operations, and message heads to bytes.

use std::hint::black_box;

use millrace_wire::client::{Parser, ParserLimits, Step};
use millrace_wire::encode;

/// Operations in one piece of input, as a read of a busy connection brings them.
const READ_OPERATIONS: u64 = 500;

const HEADERS: &[u8] = b"NATS/1.0\r\nNats-Msg-Id: 0123456789\r\nTrace: abc\r\n\r\n";

pub(crate) fn parse_pub(count: u64) {
    parse(count, |number| {
        format!("PUB orders.eu.{number} _INBOX.abcdefgh.{number} 16\r\n0123456789abcdef\r\n")
    });
}

pub(crate) fn parse_hpub(count: u64) {
    let head = HEADERS.len();
    let total = head + 16;
    let headers = String::from_utf8_lossy(HEADERS);
    parse(count, |number| {
        format!(
            "HPUB orders.eu.{number} _INBOX.abcdefgh {head} {total}\r\n{headers}0123456789abcdef\r\n"
        )
    });
}

pub(crate) fn parse_sub(count: u64) {
    parse(count, |number| {
        format!("SUB orders.*.{number} workers {number}\r\n")
    });
}

fn parse(count: u64, operation: impl Fn(u64) -> String) {
    let input: String = (0..READ_OPERATIONS).map(operation).collect();
    let limits = ParserLimits::default();
    let mut parser = Parser::new();
    for _ in 0..count / READ_OPERATIONS {
        let mut rest = black_box(input.as_bytes());
        while !rest.is_empty() {
            match parser.next(rest, &limits) {
                Ok(Step::Operation {
                    operation,
                    consumed,
                }) => {
                    black_box(operation);
                    rest = rest.get(consumed..).unwrap_or_default();
                }
                other => panic!("the input is whole: {other:?}"),
            }
        }
    }
}

pub(crate) fn encode_msg(count: u64) {
    encode(count, &[]);
}

pub(crate) fn encode_hmsg(count: u64) {
    encode(count, HEADERS);
}

fn encode(count: u64, headers: &[u8]) {
    let mut out = Vec::with_capacity(64 * 1024);
    for _ in 0..count {
        if out.len() > 32 * 1024 {
            black_box(&out);
            out.clear();
        }
        encode::message(
            &mut out,
            black_box(b"orders.eu.17"),
            black_box(b"42"),
            black_box(Some(b"_INBOX.abcdefgh.17")),
            black_box(headers),
            black_box(b"0123456789abcdef"),
        );
    }
}
