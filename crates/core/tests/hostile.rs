//! Hostile input: whatever bytes come, the broker neither panics nor keeps more than it may, and
//! other connections are served as before.

mod support;

use millrace_config::Options;
use proptest::prelude::*;
use support::Bench;

const FRAGMENTS: [&str; 24] = [
    "CONNECT {}\r\n",
    "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n",
    "PING\r\n",
    "PONG\r\n",
    "SUB a.* 1\r\n",
    "SUB > q 2\r\n",
    "SUB a..b 3\r\n",
    "UNSUB 1\r\n",
    "UNSUB 2 1\r\n",
    "PUB a.b 2\r\nhi\r\n",
    "PUB a.b r 0\r\n\r\n",
    "HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    "PUB a 999999999\r\n",
    "HPUB a 5 3\r\n",
    "PUB ",
    "SUB ",
    "\r\n",
    " ",
    "\t",
    "-ERR 'x'\r\n",
    "+OK\r\n",
    "INFO {}\r\n",
    "0",
    "CONNECT {\"user\":\"",
];

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::sample::select(FRAGMENTS.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (prop::sample::select(FRAGMENTS.to_vec()), 0..30_usize, any::<u8>()).prop_map(
            |(text, place, byte)| {
                let mut bytes = text.as_bytes().to_vec();
                let place = place % bytes.len();
                bytes[place] = byte;
                bytes
            }
        ),
    ]
}

fn options(must_login: bool) -> Options {
    let mut options = Options::default();
    options.client.max_payload = 1000;
    options.client.max_control_line = 200;
    if must_login {
        options.authorization.token = Some("secret".into());
    }
    options
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_input_harms_the_broker_or_others(
        pieces in prop::collection::vec(piece(), 1..60),
        sizes in prop::collection::vec(1..40_usize, 1..10),
        must_login in any::<bool>(),
    ) {
        let mut bench = Bench::new(options(must_login));
        bench.open("good");
        bench.take("good");
        let connect = "CONNECT {\"verbose\":false,\"auth_token\":\"secret\"}\r\nSUB mine.only 1\r\n";
        bench.exchange("good", connect);
        bench.open("bad");
        let bytes = pieces.concat();
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            bench.send("bad", now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        bench.pass_ms(3000);
        bench.take("bad");
        bench.close("bad");
        bench.take("good");
        let answer = bench.exchange("good", "PUB mine.only 1\r\nx\r\n");
        prop_assert_eq!(answer, "MSG mine.only 1 1\r\nx\r\n");
        prop_assert_eq!(bench.broker.subscription_count(), 1);
        prop_assert_eq!(bench.broker.connection_count(), 1);
    }

    #[test]
    fn the_same_bytes_give_the_same_answers_in_any_pieces(
        pieces in prop::collection::vec(piece(), 1..40),
        size in 1..50_usize,
    ) {
        let bytes = pieces.concat();
        let play = |size: usize| {
            let mut bench = Bench::new(options(false));
            bench.open("a");
            for piece in bytes.chunks(size) {
                bench.send("a", piece);
            }
            bench.take("a")
        };
        prop_assert_eq!(play(usize::MAX), play(size));
    }
}
