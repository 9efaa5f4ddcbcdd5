//! Limits, slow receivers, lame duck mode, shutdown, and receivers inside the server: what needs
//! a clock or a full queue and so cannot stand in the corpus.

mod support;

use bytes::Bytes;
use millrace_config::Options;
use millrace_core::{
    AccountId, BrokerEffect, CloseReason, Delivered, Delivery, EndpointId, LogLevel,
};
use support::Bench;

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nPING\r\n";

fn bench(change: impl FnOnce(&mut Options)) -> Bench {
    let mut options = Options::default();
    change(&mut options);
    Bench::new(options)
}

fn ready(bench: &mut Bench, name: &str) {
    bench.open(name);
    bench.exchange(name, CONNECT);
}

fn publish(bytes: usize) -> String {
    format!("PUB foo {bytes}\r\n{}\r\n", "x".repeat(bytes))
}

fn reasons(bench: &Bench) -> Vec<CloseReason> {
    let closed = bench.broker.closed_connections();
    closed
        .iter()
        .filter_map(|info| Some(info.stopped?.1))
        .collect()
}

// proves: LIM-04, LIM-18
#[test]
fn a_receiver_above_max_pending_is_cut_with_nothing_flushed() {
    let mut bench = bench(|options| options.client.max_pending = 10_000);
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo 1\r\n");
    for _ in 0..20 {
        bench.send("fast", publish(1000).as_bytes());
    }
    assert_eq!(bench.take("slow"), "<EOF>");
    assert_eq!(bench.exchange("fast", "PING\r\n"), "PONG\r\n");
    assert_eq!(reasons(&bench), [CloseReason::SlowConsumerPendingBytes]);
    let counters = bench.broker.counters();
    assert_eq!((counters.slow_consumers, counters.out_msgs), (1, 10));
    let pending = bench.broker.closed_connections()[0].pending_bytes;
    assert!(pending > 10_000, "what was thrown away: {pending}");
    let text = "Slow Consumer Detected: MaxPending of 10000 Exceeded";
    assert!(bench.effects.iter().any(|effect| matches!(effect,
        BrokerEffect::Log { level: LogLevel::Info, text: line } if line.ends_with(text))));
    assert_eq!(bench.broker.connection_count(), 1);
    assert_eq!(bench.broker.subscription_count(), 0);
}

// proves: LIM-04, SUB-07
#[test]
fn the_next_member_of_a_queue_group_takes_over_from_one_that_was_cut() {
    let mut bench = bench(|options| options.client.max_pending = 10_000);
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo q 1\r\n");
    bench.send("fast", publish(12_000).as_bytes());
    bench.exchange("fast", "SUB foo q 1\r\n");
    let answer = bench.exchange("fast", "PUB foo 1\r\nx\r\n");
    assert_eq!(answer, "MSG foo 1 1\r\nx\r\n");
}

fn pause_ms(bench: &mut Bench) -> Option<u64> {
    let now_ns = bench.now.monotonic_ns;
    let pause = bench.effects.iter().find_map(|effect| match effect {
        BrokerEffect::PauseRead { until_ns, .. } => Some((until_ns - now_ns) / 1_000_000),
        _ => None,
    });
    bench.effects.clear();
    pause
}

// proves: LIM-07
#[test]
fn a_fast_producer_is_held_back_by_a_slow_receiver() {
    let mut bench = bench(|options| options.client.max_pending = 100_000);
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo 1\r\n");
    bench.send("fast", publish(74_000).as_bytes());
    assert_eq!(pause_ms(&mut bench), None);
    bench.send("fast", publish(2_000).as_bytes());
    assert_eq!(pause_ms(&mut bench), None);
    bench.send("fast", publish(1).as_bytes());
    assert_eq!(pause_ms(&mut bench), Some(2));
    bench.send("fast", publish(1).repeat(50).as_bytes());
    assert_eq!(
        pause_ms(&mut bench),
        Some(10),
        "no more than ten milliseconds in a batch"
    );
    assert_eq!(bench.broker.counters().stalled_clients, 6);
    let fast = bench.broker.connection(bench.id("fast")).expect("open");
    assert_eq!(fast.stalls, 6);
    bench.take("slow");
    bench.send("fast", publish(1).as_bytes());
    assert_eq!(pause_ms(&mut bench), None);
}

// proves: LIM-08
#[test]
fn without_stalling_a_slow_receiver_loses_messages_and_stays() {
    let mut bench = bench(|options| {
        options.client.max_pending = 100_000;
        options.client.no_fast_producer_stall = true;
    });
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo 1\r\n");
    for _ in 0..20 {
        bench.send("fast", publish(10_000).as_bytes());
    }
    assert_eq!(pause_ms(&mut bench), None);
    let received = bench.take("slow");
    assert_eq!(received.matches("MSG foo 1 10000\r\n").count(), 8);
    assert!(!received.ends_with("<EOF>"));
}

// proves: LIM-05
#[test]
fn a_write_that_makes_no_progress_by_the_deadline_cuts_the_receiver() {
    let mut bench = bench(|options| options.client.write_deadline_ns = 1_000_000_000);
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo 1\r\n");
    bench.send("fast", publish(1000).as_bytes());
    let id = bench.id("slow");
    bench.broker.write_blocked(bench.now, id);
    bench.broker.outbound(id).consumed(1020);
    bench.send("fast", publish(1000).as_bytes());
    bench.pass_ms(1000);
    assert!(reasons(&bench).is_empty(), "what waited was written");
    bench.broker.outbound(id).consumed(10);
    bench.pass_ms(1000);
    assert_eq!(reasons(&bench), [CloseReason::SlowConsumerWriteDeadline]);
    assert_eq!(bench.take("slow"), "<EOF>");
}

#[test]
fn with_write_timeout_retry_a_receiver_outlives_its_deadline() {
    let mut bench = bench(|options| {
        options.client.write_deadline_ns = 1_000_000_000;
        options.client.write_timeout = millrace_config::options::WriteTimeout::Retry;
    });
    ready(&mut bench, "slow");
    ready(&mut bench, "fast");
    bench.exchange("slow", "SUB foo 1\r\n");
    bench.send("fast", publish(1000).as_bytes());
    let id = bench.id("slow");
    bench.broker.write_blocked(bench.now, id);
    bench.pass_ms(1000);
    bench.pass_ms(1000);
    assert!(reasons(&bench).is_empty());
    assert_eq!(bench.broker.counters().slow_consumers, 2);
    assert!(bench.take("slow").contains("MSG foo 1 1000\r\n"));
}

// proves: LIM-12
#[test]
fn lame_duck_mode_tells_clients_and_closes_them_one_by_one() {
    let mut bench = bench(|options| {
        options.lame_duck.grace_period_ns = 1_000_000_000;
        options.lame_duck.duration_ns = 31_000_000_000;
    });
    for name in ["a", "b", "c"] {
        ready(&mut bench, name);
    }
    bench.open("old");
    bench.exchange("old", "CONNECT {\"verbose\":false}\r\nPING\r\n");
    bench.broker.lame_duck(bench.now);
    bench.settle();
    let info = bench.take("a");
    assert!(
        info.starts_with("INFO {") && info.contains("\"ldm\":true"),
        "{info}"
    );
    assert_eq!(bench.take("old"), "");
    bench.open("late");
    assert!(bench.take("late").ends_with("<EOF>"));
    bench.pass_ms(900);
    assert_eq!(bench.broker.connection_count(), 4);
    bench.pass_ms(100);
    assert_eq!(bench.broker.connection_count(), 3);
    assert_eq!(bench.take("a"), "<EOF>", "the oldest goes first");
    let mut steps = 0;
    while bench.broker.connection_count() > 0 && steps < 400 {
        bench.pass_ms(10);
        steps += 1;
    }
    assert!(
        (150..=310).contains(&steps),
        "half to whole seconds between closes: {steps}"
    );
    assert!(matches!(
        bench.effects.last(),
        Some(BrokerEffect::LameDuckDone)
    ));
    assert!(
        reasons(&bench)
            .iter()
            .all(|reason| *reason == CloseReason::ServerShutdown)
    );
}

// proves: LIM-12
#[test]
fn lame_duck_mode_without_clients_is_done_at_once() {
    let mut bench = bench(|_| {});
    bench.broker.lame_duck(bench.now);
    bench.settle();
    assert!(matches!(
        bench.effects.last(),
        Some(BrokerEffect::LameDuckDone)
    ));
}

// proves: LIM-19
#[test]
fn shutdown_flushes_and_closes_everybody() {
    let mut bench = bench(|_| {});
    ready(&mut bench, "a");
    ready(&mut bench, "b");
    bench.send("b", b"PING\r\n");
    bench.broker.shutdown(bench.now);
    bench.settle();
    assert_eq!(bench.take("b"), "PONG\r\n<EOF>");
    assert_eq!(reasons(&bench), [CloseReason::ServerShutdown; 2]);
    assert_eq!(bench.broker.next_deadline(), None);
}

// proves: LIM-18
#[test]
fn the_history_of_closed_connections_is_bounded() {
    let mut bench = bench(|options| options.client.max_closed_clients = 3);
    for number in 0..10 {
        let name = format!("c{number}");
        ready(&mut bench, &name);
        bench.close(&name);
    }
    let ids: Vec<u64> = bench
        .broker
        .closed_connections()
        .iter()
        .map(|info| info.id.0)
        .collect();
    assert_eq!(ids, [8, 9, 10]);
}

fn deliveries(bench: &mut Bench) -> Vec<Delivery> {
    let mut out = Vec::new();
    bench.broker.take_deliveries(&mut out);
    out
}

#[test]
fn receivers_inside_the_server_get_messages_and_count_as_responders() {
    let mut bench = bench(|_| {});
    let (account, endpoint) = (AccountId::GLOBAL, EndpointId(7));
    bench.broker.bind(account, b"svc.*", endpoint);
    bench.broker.bind(account, b"svc.*", endpoint);
    bench.open("a");
    let connect =
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB in 1\r\n";
    bench.exchange("a", connect);
    assert_eq!(
        bench.exchange("a", "HPUB svc.x in 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ""
    );
    let got = deliveries(&mut bench);
    assert_eq!(got.len(), 1, "bound twice, delivered once");
    let (headers, payload) = (&*got[0].headers, &*got[0].payload);
    assert_eq!(
        (&*got[0].subject, &*got[0].reply),
        (&b"svc.x"[..], &b"in"[..])
    );
    assert_eq!((headers, payload), (&b"NATS/1.0\r\n\r\n"[..], &b"hi"[..]));
    assert_eq!(
        (got[0].publisher, got[0].endpoint),
        (Some(bench.id("a")), endpoint)
    );
    let answer = bench
        .broker
        .publish(bench.now, account, b"in", b"", b"", b"ok");
    assert_eq!(
        answer,
        Delivered {
            clients: 1,
            endpoints: 0,
            imports: 0,
        }
    );
    assert_eq!(bench.take("a"), "MSG in 1 2\r\nok\r\n");
    let routed = bench.broker.publish_as(
        bench.now,
        account,
        b"in",
        b"stored",
        b"ack",
        b"",
        &Bytes::from_static(b"m"),
    );
    assert!(routed.any());
    assert_eq!(bench.take("a"), "MSG stored 1 ack 1\r\nm\r\n");
    bench.broker.unbind(account, b"svc.*", endpoint);
    assert!(
        bench
            .exchange("a", "PUB svc.x in 0\r\n\r\n")
            .contains("503")
    );
    assert!(deliveries(&mut bench).is_empty());
}

#[test]
fn a_big_payload_reaches_clients_and_receivers_unchanged() {
    let mut bench = bench(|_| {});
    bench.broker.bind(AccountId::GLOBAL, b"foo", EndpointId(1));
    ready(&mut bench, "a");
    ready(&mut bench, "b");
    bench.exchange("a", "SUB foo 1\r\n");
    bench.exchange("b", "SUB foo 2\r\n");
    let payload: String = (0..200_000)
        .map(|n| char::from(b'a' + (n % 26) as u8))
        .collect();
    let message = format!("PUB foo 200000\r\n{payload}\r\nPING\r\n");
    for piece in [message.len(), 1000, 65_536] {
        for bytes in message.as_bytes().chunks(piece) {
            bench.send("a", bytes);
        }
        assert_eq!(
            bench.take("a"),
            format!("MSG foo 1 200000\r\n{payload}\r\nPONG\r\n")
        );
        assert_eq!(
            bench.take("b"),
            format!("MSG foo 2 200000\r\n{payload}\r\n")
        );
        assert_eq!(deliveries(&mut bench)[0].payload, payload.as_bytes());
    }
}

#[test]
fn changes_of_interest_are_reported_for_watched_subjects() {
    let mut bench = bench(|_| {});
    ready(&mut bench, "a");
    let changes = |bench: &mut Bench| {
        let mut out = Vec::new();
        bench.broker.take_interest_changes(&mut out);
        out.into_iter()
            .map(|(_, subject)| subject)
            .collect::<Vec<_>>()
    };
    bench.broker.watch_interest(AccountId::GLOBAL, b"in.box");
    bench.exchange("a", "SUB other 1\r\nSUB in.* 2\r\n");
    assert_eq!(changes(&mut bench), [b"in.box"]);
    assert!(bench.broker.has_interest(AccountId::GLOBAL, b"in.box"));
    bench.exchange("a", "SUB in.box q 3\r\n");
    assert!(
        bench
            .broker
            .has_queue_interest(AccountId::GLOBAL, b"in.box", b"q")
    );
    assert!(
        !bench
            .broker
            .has_queue_interest(AccountId::GLOBAL, b"in.box", b"p")
    );
    bench.close("a");
    assert_eq!(changes(&mut bench), [b"in.box"; 3]);
    assert!(!bench.broker.has_interest(AccountId::GLOBAL, b"in.box"));
    bench.broker.unwatch_interest(AccountId::GLOBAL, b"in.box");
    ready(&mut bench, "b");
    bench.exchange("b", "SUB in.box 1\r\n");
    assert!(changes(&mut bench).is_empty());
}

// proves: LIM-09, LIM-10
#[test]
fn a_busy_connection_is_not_pinged_once_its_round_trip_is_known() {
    let mut bench = bench(|options| options.client.ping_interval_ns = 5_000_000_000);
    ready(&mut bench, "a");
    bench.pass_ms(2400);
    assert_eq!(bench.exchange("a", "PONG\r\n"), "PING\r\n");
    for _ in 0..10 {
        bench.pass_ms(1000);
        assert_eq!(bench.exchange("a", "PUB x 0\r\n\r\n"), "");
    }
    bench.pass_ms(9000);
    assert_eq!(bench.take("a"), "PING\r\n");
}

// proves: SUB-05
#[test]
fn members_of_a_queue_group_are_chosen_evenly() {
    let mut bench = bench(|_| {});
    ready(&mut bench, "p");
    let names = ["a", "b", "c", "d"];
    for name in names {
        ready(&mut bench, name);
        bench.exchange(name, "SUB foo q 1\r\n");
    }
    bench.send("p", "PUB foo 1\r\nx\r\n".repeat(4000).as_bytes());
    let counts = names.map(|name| bench.take(name).matches("MSG").count());
    assert_eq!(counts.iter().sum::<usize>(), 4000);
    assert!(
        counts.iter().all(|count| (850..1150).contains(count)),
        "{counts:?}"
    );
}
