//! Payloads that are too big to be copied: in pieces, straight into their place, shared by all who
//! get them, and held only as long as somebody has them to write.

mod support;

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};
use millrace_config::Options;
use millrace_core::BrokerEffect;
use support::Bench;

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nPING\r\n";
const BIG: usize = 300_000;

fn bench(names: &[&str]) -> Bench {
    let mut bench = Bench::new(Options::default());
    for name in names {
        bench.open(name);
        bench.exchange(name, CONNECT);
    }
    bench
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 % 251) as u8).collect()
}

fn publish(payload: &[u8]) -> Vec<u8> {
    let head = format!("PUB foo {}\r\n", payload.len());
    [head.as_bytes(), payload, b"\r\n"].concat()
}

fn message(payload: &[u8]) -> Vec<u8> {
    let head = format!("MSG foo 1 {}\r\n", payload.len());
    [head.as_bytes(), payload, b"\r\n"].concat()
}

/// Gives bytes to the broker as a socket would: into the place it names, if it names one.
fn read_into_place(bench: &mut Bench, name: &str, bytes: &[u8], pieces: usize) -> usize {
    let id = bench.id(name);
    let mut direct = 0;
    let mut rest = bytes;
    while !rest.is_empty() {
        let count = if let Some(place) = bench.broker.incoming(id) {
            let count = rest.len().min(pieces).min(place.len());
            place[..count].copy_from_slice(&rest[..count]);
            bench.broker.incoming_filled(bench.now, id, count);
            direct += count;
            count
        } else {
            let count = rest.len().min(pieces);
            bench.broker.receive(bench.now, id, &rest[..count]);
            count
        };
        rest = &rest[count..];
    }
    bench.settle();
    direct
}

/// Where each slice that waits for a connection lies, and how long it is.
fn places(bench: &mut Bench, name: &str) -> Vec<(usize, usize)> {
    let id = bench.id(name);
    let outbound = bench.broker.outbound(id);
    let mut slices = vec![IoSlice::new(&[]); outbound.chunk_count()];
    let filled = outbound.io_slices(&mut slices);
    let place = |slice: &IoSlice<'_>| (slice.as_ptr() as usize, slice.len());
    slices[..filled].iter().map(place).collect()
}

// proves: PRO-09
#[test]
fn a_big_payload_in_pieces_of_any_size_arrives_whole_and_the_next_message_behind_it() {
    for pieces in [1_000, 16_385, 65_536, 99_991, 1 << 20] {
        let mut bench = bench(&["in", "out"]);
        bench.exchange("out", "SUB foo 1\r\n");
        let input = [publish(&payload(BIG)), publish(b"small")].concat();
        let direct = read_into_place(&mut bench, "in", &input.repeat(3), pieces);
        assert!(
            direct > 0 || pieces > BIG,
            "{pieces}: never read into place"
        );
        let expected = [message(&payload(BIG)), message(b"small")]
            .concat()
            .repeat(3);
        assert!(bench.take_bytes("out").0 == expected, "pieces of {pieces}");
    }
}

#[test]
fn one_big_payload_is_shared_by_all_who_get_it() {
    let mut bench = bench(&["in", "a", "b", "c"]);
    for name in ["a", "b", "c"] {
        bench.exchange(name, "SUB foo 1\r\n");
    }
    read_into_place(&mut bench, "in", &publish(&payload(BIG)), 50_000);
    let shared = |bench: &mut Bench, name| {
        let all = places(bench, name);
        all.into_iter().find(|place| place.1 > 1000)
    };
    let first = shared(&mut bench, "a");
    assert!(
        first.is_some_and(|place| place.1 == BIG + 2),
        "payload and line end at once"
    );
    assert_eq!(shared(&mut bench, "b"), first);
    assert_eq!(shared(&mut bench, "c"), first);
    for name in ["a", "b", "c"] {
        assert!(bench.take_bytes(name).0 == message(&payload(BIG)));
    }
}

#[test]
fn the_memory_of_a_big_payload_is_used_for_the_next_one() {
    let mut bench = bench(&["in", "out"]);
    bench.exchange("out", "SUB foo 1\r\n");
    let mut seen = Vec::new();
    for _ in 0..10 {
        read_into_place(&mut bench, "in", &publish(&payload(BIG)), 50_000);
        let all = places(&mut bench, "out");
        seen.extend(all.into_iter().filter(|place| place.1 > 1000));
        assert!(bench.take_bytes("out").0 == message(&payload(BIG)));
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(
        seen.len() <= 2,
        "{} places for payloads one after the other",
        seen.len()
    );
}

#[test]
fn a_short_write_leaves_the_rest_of_a_shared_payload() {
    let mut bench = bench(&["in", "slow"]);
    bench.exchange("slow", "SUB foo 1\r\n");
    let input = [publish(&payload(BIG)), publish(b"small")].concat();
    read_into_place(&mut bench, "in", &input, 1 << 20);
    let expected = [message(&payload(BIG)), message(b"small")].concat();
    let id = bench.id("slow");
    let mut written = Vec::new();
    for step in [1, 10, 17, 4096, 70_000, 1, 200_000].iter().cycle() {
        let outbound = bench.broker.outbound(id);
        if outbound.is_empty() {
            break;
        }
        let mut slices = vec![IoSlice::new(&[]); 2];
        let filled = outbound.io_slices(&mut slices);
        let waiting: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
        let count = waiting.len().min(*step);
        written.extend_from_slice(&waiting[..count]);
        bench.broker.written(id, count);
    }
    assert!(written == expected);
}

// proves: PRO-23
#[test]
fn a_wrong_line_end_behind_a_big_payload_is_seen_at_its_first_byte() {
    let mut bench = bench(&["in"]);
    let input = publish(&payload(BIG));
    read_into_place(&mut bench, "in", &input[..input.len() - 2], 50_000);
    assert_eq!(bench.take("in"), "");
    bench.send("in", b"x");
    assert!(
        bench
            .take("in")
            .starts_with("-ERR 'Unknown Protocol Operation'")
    );
}

#[test]
fn payloads_of_some_size_leave_as_slices_of_the_block_they_came_in() {
    let mut bench = bench(&["in", "a", "b"]);
    bench.exchange("a", "SUB foo 1\r\n");
    bench.exchange("b", "SUB foo 1\r\n");
    let input = [
        publish(&payload(5000)),
        publish(b"small"),
        publish(&payload(20_000)),
    ]
    .concat();
    let mut block = BytesMut::zeroed(input.len() + 100);
    block[..input.len()].copy_from_slice(&input);
    let block: Bytes = block.freeze();
    let inside = block.as_ptr() as usize..block.as_ptr() as usize + block.len();
    let id = bench.id("in");
    bench
        .broker
        .receive_block(bench.now, id, &block, input.len());
    for name in ["a", "b"] {
        let all = places(&mut bench, name);
        let lent: Vec<usize> = all
            .iter()
            .filter(|place| inside.contains(&place.0))
            .map(|place| place.1)
            .collect();
        assert_eq!(lent, [5002, 20_002]);
        assert_eq!(all.len(), 4, "lines and small payloads lie together");
    }
    assert!(!block.is_unique());
    let expected = [
        message(&payload(5000)),
        message(b"small"),
        message(&payload(20_000)),
    ]
    .concat();
    assert!(bench.take_bytes("a").0 == expected);
    assert!(bench.take_bytes("b").0 == expected);
    assert!(block.is_unique(), "nobody holds on to what is written");
}

#[test]
fn a_full_socket_holds_its_publisher_back_until_it_is_drained() {
    let mut bench = bench(&["in", "slow"]);
    bench.exchange("slow", "SUB foo 1\r\n");
    let slow = bench.id("slow");
    let pauses = |bench: &mut Bench| {
        read_into_place(bench, "in", &publish(&payload(BIG)), 1 << 20);
        let is_pause = |effect: &BrokerEffect| {
            matches!(
                effect,
                BrokerEffect::PauseRead {
                    until_drained: true,
                    ..
                }
            )
        };
        let found = bench
            .effects
            .iter()
            .filter(|effect| is_pause(effect))
            .count();
        bench.effects.clear();
        found
    };
    for _ in 0..4 {
        assert_eq!(pauses(&mut bench), 0, "the socket was not seen to be full");
    }
    bench.broker.write_blocked(bench.now, slow);
    assert_eq!(pauses(&mut bench), 1);
    let pending = bench.broker.outbound(slow).pending();
    bench.broker.written(slow, pending - 1);
    assert_eq!(pauses(&mut bench), 0, "little waits");
    let pending = bench.broker.outbound(slow).pending();
    bench.broker.written(slow, pending);
    for _ in 0..4 {
        assert_eq!(pauses(&mut bench), 0, "the socket was drained");
    }
}

/// What is sent on as it came must be what a server would have written itself.
#[test]
fn messages_in_any_spelling_arrive_as_a_server_writes_them() {
    let mut bench = bench(&["old"]);
    for name in ["in", "new"] {
        bench.open(name);
        bench.exchange(
            name,
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n",
        );
    }
    bench.exchange("old", "SUB foo 1\r\n");
    bench.exchange("new", "SUB foo 22\r\n");
    let headers = "NATS/1.0\r\nA: 1\r\n\r\n";
    let with_headers = format!("HMSG foo 22 18 20\r\n{headers}hi\r\n");
    let plain = "MSG foo 22 2\r\nhi\r\n";
    for (sent, expected) in [
        ("PUB foo 2\r\nhi\r\n".to_owned(), plain),
        ("PUB foo 002\r\nhi\r\n".to_owned(), plain),
        ("PUB  foo\t2 \r\nhi\r\n".to_owned(), plain),
        ("pub foo 2\nhi\r\n".to_owned(), plain),
        ("HPUB foo 0 2\r\nhi\r\n".to_owned(), plain),
        (
            "PUB foo r 2\r\nhi\r\n".to_owned(),
            "MSG foo 22 r 2\r\nhi\r\n",
        ),
        ("PUB foo 0\r\n\r\n".to_owned(), "MSG foo 22 0\r\n\r\n"),
        (format!("HPUB foo 18 20\r\n{headers}hi\r\n"), &with_headers),
        (format!("HPUB foo 018 20\r\n{headers}hi\r\n"), &with_headers),
        (
            format!("HPUB foo 18 0020\r\n{headers}hi\r\n"),
            &with_headers,
        ),
        (format!("hpub foo 18 20\r\n{headers}hi\r\n"), &with_headers),
    ] {
        bench.send("in", sent.as_bytes());
        assert_eq!(bench.take("new"), expected, "{sent:?}");
        let without = expected.replace("HMSG foo 22 18 20", "MSG foo 22 2");
        let without = without.replace(headers, "").replace("foo 22", "foo 1");
        assert_eq!(bench.take("old"), without, "{sent:?}");
    }
}
