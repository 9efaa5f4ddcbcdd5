//! `/metrics`: what Prometheus collects. Names carry their units. How many accounts, streams and
//! consumers have samples of their own is bounded, because each is a time series somewhere else;
//! the others are summed, and how many they are is a sample of its own.

use millrace_clock::Now;
use millrace_core::{AccountInfo, ServerCounters};
use millrace_jetstream::shared::Shared;
use millrace_jetstream::{ConsumerGauges, GaugeLimits, Gauges, JetStream, StreamGauges};

use super::exposition::{Exposition, Kind};
use super::{HostFacts, MonitorAnswer};
use crate::engine::EngineHealth;
use crate::node::Node;

/// Accounts with samples of their own: those with the lowest ids, which is the order of the
/// configuration.
const ACCOUNTS_MAX: usize = 100;
/// Streams with samples of their own.
const STREAMS_MAX: usize = 500;
/// Consumers with samples of their own.
const CONSUMERS_MAX: usize = 1_000;
/// Subjects that one collection may look at to count what is pending: some milliseconds.
const COUNTED_SUBJECTS_MAX: u64 = 50_000;
/// What the label says of the sum of those without samples of their own. No name of an account,
/// stream or consumer has a blank in it.
const OTHERS: &str = "all others";

/// Upper bounds of the buckets of [`LatencyHistogram`], in nanoseconds.
pub const SYNC_BOUNDS_NS: [u64; 12] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    2_500_000_000,
];

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Counts by the buckets of [`SYNC_BOUNDS_NS`], and of all that took longer.
    pub counts: [u64; SYNC_BOUNDS_NS.len() + 1],
    /// All times together.
    pub sum_ns: u64,
}

impl Node {
    pub(super) fn metrics(&self, now: Now, facts: &HostFacts) -> MonitorAnswer {
        let mut page = Exposition::default();
        self.put_process(&mut page, now, facts);
        self.put_core(&mut page);
        put_accounts(&mut page, &self.broker.accounts());
        self.put_jetstream(&mut page, now, facts);
        MonitorAnswer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: page.finish().into_bytes(),
        }
    }

    fn put_process(&self, page: &mut Exposition, now: Now, facts: &HostFacts) {
        let identity = self.broker.identity();
        page.family(
            "millrace_build_info",
            Kind::Gauge,
            "Always 1; the labels say which server this is.",
        )
        .sample(
            &[
                ("version", millrace_core::MILLRACE_VERSION),
                ("compatible_version", millrace_core::COMPATIBLE_VERSION),
                ("server_name", &identity.server_name),
                ("server_id", &identity.server_id),
            ],
            1,
        );
        let uptime_ns = now.monotonic_ns.saturating_sub(self.started.monotonic_ns);
        for (name, kind, help, value) in [
            (
                "process_start_time_seconds",
                Kind::Gauge,
                "When the server started, in seconds since 1970.",
                seconds(self.started.wall_ns.unsigned_abs()),
            ),
            (
                "process_cpu_seconds_total",
                Kind::Counter,
                "Processor time used by the server.",
                seconds(facts.processor_ns),
            ),
            (
                "millrace_uptime_seconds",
                Kind::Gauge,
                "Time since the start.",
                seconds(uptime_ns),
            ),
        ] {
            page.single(name, kind, help, value);
        }
        page.single(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory of the server.",
            facts.memory_bytes,
        );
        page.single(
            "millrace_ready",
            Kind::Gauge,
            "1 while clients are let in and JetStream, if on, serves.",
            u8::from(self.is_serving(facts)),
        );
    }

    fn put_core(&self, page: &mut Exposition) {
        use Kind::{Counter, Gauge};
        let counters = self.broker.counters();
        let connections = self.broker.connection_count() as u64;
        let subscriptions = self.broker.subscription_count() as u64;
        let in_bytes = "Bytes of headers and payloads received from clients.";
        let out_bytes = "Bytes of headers and payloads handed to clients.";
        let numbers = [
            (
                "millrace_connections",
                Gauge,
                "Open client connections.",
                connections,
            ),
            (
                "millrace_connections_total",
                Counter,
                "Client connections accepted since the start.",
                counters.total_connections,
            ),
            (
                "millrace_subscriptions",
                Gauge,
                "Subscriptions of clients and of the server itself.",
                subscriptions,
            ),
            (
                "millrace_received_messages_total",
                Counter,
                "Messages received from clients.",
                counters.in_msgs,
            ),
            (
                "millrace_received_bytes_total",
                Counter,
                in_bytes,
                counters.in_bytes,
            ),
            (
                "millrace_sent_messages_total",
                Counter,
                "Messages handed to clients.",
                counters.out_msgs,
            ),
            (
                "millrace_sent_bytes_total",
                Counter,
                out_bytes,
                counters.out_bytes,
            ),
        ];
        for (name, kind, help, value) in numbers {
            page.single(name, kind, help, value);
        }
        put_losses(page, &counters);
        page.family(
            "millrace_monitoring_requests_total",
            Counter,
            "Requests to monitoring endpoints.",
        );
        for (path, count) in &self.http_requests {
            page.sample(&[("path", path)], count);
        }
    }

    fn put_jetstream(&self, page: &mut Exposition, now: Now, facts: &HostFacts) {
        let Some(engine) = &self.engine else {
            return;
        };
        let is_running = engine.health() == EngineHealth::Running;
        page.single(
            "millrace_jetstream_up",
            Kind::Gauge,
            "1 when JetStream serves, 0 while it reads its store or after it failed.",
            u8::from(is_running),
        );
        put_sync_times(page, facts);
        let Some(jetstream) = engine.jetstream() else {
            return;
        };
        put_totals(page, jetstream, engine.journal_bytes());
        put_memory(page, &jetstream.shared);
        let limits = GaugeLimits {
            streams_max: STREAMS_MAX,
            consumers_max: CONSUMERS_MAX,
            counted_subjects_max: COUNTED_SUBJECTS_MAX,
        };
        let gauges = jetstream.gauges(now, limits);
        put_streams(page, &gauges);
        put_consumers(page, &gauges);
        put_others(page, &gauges);
    }
}

fn seconds(time_ns: u64) -> f64 {
    time_ns as f64 / Now::SECOND_NS as f64
}

fn put_totals(page: &mut Exposition, jetstream: &JetStream, journal_bytes: u64) {
    use Kind::{Counter, Gauge};
    let totals = jetstream.totals();
    for (name, kind, help, value) in [
        (
            "millrace_jetstream_streams",
            Gauge,
            "Streams.",
            totals.streams as u64,
        ),
        (
            "millrace_jetstream_consumers",
            Gauge,
            "Consumers.",
            totals.consumers as u64,
        ),
        (
            "millrace_jetstream_messages",
            Gauge,
            "Stored messages.",
            totals.messages,
        ),
        (
            "millrace_jetstream_memory_bytes",
            Gauge,
            "Bytes accounted to memory streams.",
            totals.memory_bytes,
        ),
        (
            "millrace_jetstream_storage_bytes",
            Gauge,
            "Bytes accounted to file streams.",
            totals.file_bytes,
        ),
        (
            "millrace_jetstream_api_requests_total",
            Counter,
            "Requests to the JetStream API.",
            totals.api_total,
        ),
        (
            "millrace_jetstream_api_errors_total",
            Counter,
            "Requests to the JetStream API that were refused.",
            totals.api_errors,
        ),
        (
            "millrace_jetstream_journal_bytes",
            Gauge,
            "Bytes of journal files on disk, spares and the reserve included.",
            journal_bytes,
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

fn put_memory(page: &mut Exposition, shared: &Shared) {
    use Kind::{Counter, Gauge};
    let (cache, indexes) = shared.memory.resident_bytes();
    for (name, kind, help, value) in [
        (
            "millrace_jetstream_cache_bytes",
            Gauge,
            "Memory held for messages and blocks that are on disk too.",
            cache,
        ),
        (
            "millrace_jetstream_index_bytes",
            Gauge,
            "Memory held for indexes and for messages in no segment yet.",
            indexes,
        ),
        (
            "millrace_jetstream_indexes_given_up_total",
            Counter,
            "Indexes of idle streams that went to make room.",
            shared.memory.indexes_given_up(),
        ),
        (
            "millrace_jetstream_consumers_repaired_total",
            Counter,
            "Times that a consumer's state had to be put right.",
            shared.consumers_repaired,
        ),
        (
            "millrace_jetstream_disk_full",
            Gauge,
            "1 while publishes are refused because the disk is full.",
            u64::from(shared.disk_full),
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

/// Clients that were cut or held back.
fn put_losses(page: &mut Exposition, counters: &ServerCounters) {
    for (name, kind, help, value) in [
        (
            "millrace_slow_consumers_total",
            Kind::Counter,
            "Clients cut because they did not read fast enough.",
            counters.slow_consumers,
        ),
        (
            "millrace_stale_connections_total",
            Kind::Counter,
            "Clients cut because they did not answer pings.",
            counters.stale_connections,
        ),
        (
            "millrace_stalled_clients_total",
            Kind::Counter,
            "Times that a publisher was held back for a slow receiver.",
            counters.stalled_clients,
        ),
    ] {
        page.single(name, kind, help, value);
    }
}

fn put_accounts(page: &mut Exposition, accounts: &[AccountInfo]) {
    use Kind::{Counter, Gauge};
    type Value = fn(&AccountInfo) -> u64;
    let families: [(_, _, _, Value); 7] = [
        (
            "millrace_account_connections",
            Gauge,
            "Clients of an account.",
            |one| one.connections as u64,
        ),
        (
            "millrace_account_subscriptions",
            Gauge,
            "Subscriptions in an account.",
            |one| one.subscriptions as u64,
        ),
        (
            "millrace_account_received_messages_total",
            Counter,
            "Messages received from clients of an account.",
            |one| one.received_msgs,
        ),
        (
            "millrace_account_received_bytes_total",
            Counter,
            "Bytes received from clients of an account.",
            |one| one.received_bytes,
        ),
        (
            "millrace_account_sent_messages_total",
            Counter,
            "Messages handed to clients of an account.",
            |one| one.sent_msgs,
        ),
        (
            "millrace_account_sent_bytes_total",
            Counter,
            "Bytes handed to clients of an account.",
            |one| one.sent_bytes,
        ),
        (
            "millrace_account_slow_consumers_total",
            Counter,
            "Clients of an account that were cut because they did not read fast enough.",
            |one| one.slow_consumers,
        ),
    ];
    let (shown, others) = accounts.split_at(accounts.len().min(ACCOUNTS_MAX));
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for account in shown {
            page.sample(&[("account", &account.name)], value(account));
        }
        if !others.is_empty() {
            page.sample(
                &[("account", OTHERS)],
                others.iter().map(value).sum::<u64>(),
            );
        }
    }
    page.single(
        "millrace_accounts_without_samples",
        Gauge,
        "Accounts that are summed as \"all others\".",
        others.len(),
    );
}

fn put_sync_times(page: &mut Exposition, facts: &HostFacts) {
    let times = &facts.sync_times;
    page.family(
        "millrace_journal_sync_seconds",
        Kind::Histogram,
        "How long syncs of the journal take: acknowledgements wait for them.",
    );
    let mut count = 0;
    for (bound, here) in SYNC_BOUNDS_NS.iter().zip(times.counts) {
        count += here;
        let bound = seconds(*bound).to_string();
        page.sample_of("_bucket", &[("le", &bound)], count);
    }
    count += times.counts.last().copied().unwrap_or_default();
    page.sample_of("_bucket", &[("le", "+Inf")], count);
    page.sample_of("_sum", &[], seconds(times.sum_ns));
    page.sample_of("_count", &[], count);
}

fn put_streams(page: &mut Exposition, gauges: &Gauges<'_>) {
    type Value = fn(&StreamGauges<'_>) -> Option<u64>;
    let families: [(_, _, Value); 8] = [
        ("millrace_stream_messages", "Messages in a stream.", |one| {
            Some(one.messages)
        }),
        ("millrace_stream_bytes", "Bytes of a stream.", |one| {
            Some(one.bytes)
        }),
        ("millrace_stream_subjects", "Subjects in a stream.", |one| {
            Some(one.subjects)
        }),
        (
            "millrace_stream_deleted_messages",
            "Messages deleted in a stream's interior.",
            |one| Some(one.deleted),
        ),
        (
            "millrace_stream_first_sequence",
            "First sequence of a stream.",
            |one| Some(one.first_sequence),
        ),
        (
            "millrace_stream_last_sequence",
            "Last sequence of a stream.",
            |one| Some(one.last_sequence),
        ),
        (
            "millrace_stream_consumers",
            "Consumers of a stream.",
            |one| Some(one.consumers),
        ),
        (
            "millrace_stream_origin_lag_messages",
            "Messages that a mirror's or the sources' origins have and the stream has not.",
            |one| one.origin_lag,
        ),
    ];
    for (name, help, value) in families {
        page.family(name, Kind::Gauge, help);
        for stream in &gauges.streams {
            if let Some(value) = value(stream) {
                page.sample(
                    &[("account", stream.account), ("stream", stream.name)],
                    value,
                );
            }
        }
    }
}

fn put_consumers(page: &mut Exposition, gauges: &Gauges<'_>) {
    type Value = fn(&ConsumerGauges<'_>) -> Option<u64>;
    let families: [(_, _, Value); 7] = [
        (
            "millrace_consumer_pending_messages",
            "Messages that a consumer has not delivered yet. Left out where counting is costly.",
            |one| one.pending,
        ),
        (
            "millrace_consumer_ack_pending_messages",
            "Messages delivered and not acknowledged yet.",
            |one| Some(one.ack_pending),
        ),
        (
            "millrace_consumer_redelivered_messages",
            "Messages delivered more than once and not acknowledged yet.",
            |one| Some(one.redelivered),
        ),
        (
            "millrace_consumer_waiting_requests",
            "Pull requests that wait.",
            |one| Some(one.waiting),
        ),
        (
            "millrace_consumer_ack_floor_sequence",
            "Stream sequence up to which all is acknowledged.",
            |one| Some(one.ack_floor),
        ),
        (
            "millrace_consumer_delivered_sequence",
            "Stream sequence that was delivered last.",
            |one| Some(one.delivered),
        ),
        (
            "millrace_consumer_paused",
            "1 while a consumer is paused.",
            |one| Some(u64::from(one.is_paused)),
        ),
    ];
    for (name, help, value) in families {
        page.family(name, Kind::Gauge, help);
        for consumer in &gauges.consumers {
            if let Some(value) = value(consumer) {
                let labels = [
                    ("account", consumer.account),
                    ("stream", consumer.stream),
                    ("consumer", consumer.name),
                ];
                page.sample(&labels, value);
            }
        }
    }
}

/// What has no samples of its own.
fn put_others(page: &mut Exposition, gauges: &Gauges<'_>) {
    let others = &gauges.others;
    for (name, help, value) in [
        (
            "millrace_streams_without_samples",
            "Streams beyond those with samples of their own.",
            others.streams,
        ),
        (
            "millrace_streams_without_samples_messages",
            "Messages in streams without samples of their own.",
            others.stream_messages,
        ),
        (
            "millrace_streams_without_samples_bytes",
            "Bytes of streams without samples of their own.",
            others.stream_bytes,
        ),
        (
            "millrace_consumers_without_samples",
            "Consumers beyond those with samples of their own.",
            others.consumers,
        ),
        (
            "millrace_consumers_without_samples_ack_pending_messages",
            "Messages without acknowledgement of consumers without samples of their own.",
            others.ack_pending,
        ),
        (
            "millrace_consumers_without_samples_redelivered_messages",
            "Messages delivered again of consumers without samples of their own.",
            others.redelivered,
        ),
        (
            "millrace_consumers_without_samples_waiting_requests",
            "Waiting pull requests of consumers without samples of their own.",
            others.waiting,
        ),
    ] {
        page.single(name, Kind::Gauge, help, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_core::AccountId;

    #[test]
    fn accounts_beyond_the_limit_are_summed() {
        let account = |number: u32| AccountInfo {
            id: AccountId(number),
            name: format!("A{number}"),
            connections: 1,
            total_connections: 0,
            subscriptions: 0,
            sent_msgs: 0,
            sent_bytes: 0,
            received_msgs: 2,
            received_bytes: 0,
            slow_consumers: 0,
        };
        let accounts: Vec<AccountInfo> = (0..ACCOUNTS_MAX as u32 + 3).map(account).collect();
        let mut page = Exposition::default();
        put_accounts(&mut page, &accounts);
        let text = page.finish();
        let last = ACCOUNTS_MAX - 1;
        assert!(text.contains(&format!(
            "millrace_account_connections{{account=\"A{last}\"}} 1\n"
        )));
        assert!(!text.contains(&format!("\"A{ACCOUNTS_MAX}\"")));
        assert!(text.contains("millrace_account_connections{account=\"all others\"} 3\n"));
        assert!(
            text.contains("millrace_account_received_messages_total{account=\"all others\"} 6\n")
        );
        assert!(text.contains("millrace_accounts_without_samples 3\n"));
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut facts = HostFacts::default();
        facts.sync_times.counts[0] = 2;
        facts.sync_times.counts[3] = 1;
        facts.sync_times.counts[SYNC_BOUNDS_NS.len()] = 1;
        facts.sync_times.sum_ns = 1_500_000_000;
        let mut page = Exposition::default();
        put_sync_times(&mut page, &facts);
        let text = page.finish();
        for line in [
            "millrace_journal_sync_seconds_bucket{le=\"0.0001\"} 2",
            "millrace_journal_sync_seconds_bucket{le=\"0.001\"} 3",
            "millrace_journal_sync_seconds_bucket{le=\"2.5\"} 3",
            "millrace_journal_sync_seconds_bucket{le=\"+Inf\"} 4",
            "millrace_journal_sync_seconds_sum 1.5",
            "millrace_journal_sync_seconds_count 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
