//! `/jsz`: JetStream as a whole, its accounts, streams and consumers (spec core/12 §12.4).

use millrace_clock::Now;
use millrace_jetstream::JetStream;
use millrace_jetstream::engine::Account;
use millrace_jetstream::model::ConsumerInfo;
use millrace_jetstream::report::StreamReport;
use serde_json::{Map, Value, json};

use super::{MonitorAnswer, Query, time_text};
use crate::node::Node;

/// Accounts shown at once unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 1024;

/// What a request wants to see.
struct Wanted<'a> {
    account: Option<&'a str>,
    accounts: bool,
    streams: bool,
    consumers: bool,
    direct_consumers: bool,
    config: bool,
    raft: bool,
    offset: usize,
    limit: usize,
}

impl<'a> Wanted<'a> {
    fn read(query: &'a Query) -> Result<Self, MonitorAnswer> {
        let consumers = query.flag("consumers")?;
        let streams = query.flag("streams")? || consumers;
        let account = query.text("acc");
        let wanted = Self {
            account,
            accounts: query.flag("accounts")? || streams || account.is_some(),
            streams,
            consumers,
            direct_consumers: query.flag("direct-consumers")?,
            config: query.flag("config")?,
            raft: query.flag("raft")?,
            offset: query.number("offset", 0)?,
            limit: query.number("limit", DEFAULT_LIMIT)?,
        };
        // One server leads all there is: they change nothing, but must be readable.
        query.flag("leader-only")?;
        query.flag("stream-leader-only")?;
        Ok(wanted)
    }
}

impl Node {
    pub(super) fn jsz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let wanted = Wanted::read(query)?;
        let server_id = self.broker.identity().server_id.clone();
        let (Some(host), Some(engine)) = (&self.jetstream_host, &self.engine) else {
            return Ok(MonitorAnswer::json(&json!({
                "memory": 0,
                "storage": 0,
                "reserved_memory": 0,
                "reserved_storage": 0,
                "accounts": 0,
                "ha_assets": 0,
                "api": {"level": 0, "total": 0, "errors": 0},
                "server_id": server_id,
                "now": time_text(now.wall_ns),
                "disabled": true,
                "config": {"max_memory": 0, "max_storage": 0},
                "streams": 0,
                "consumers": 0,
                "messages": 0,
                "bytes": 0,
                "total": 0,
            })));
        };
        let jetstream = engine.jetstream();
        let totals = jetstream.map(JetStream::totals).unwrap_or_default();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        let repaired = jetstream.map_or(0, |it| it.shared.consumers_repaired);
        let scrub = jetstream.map(JetStream::scrub_counts).unwrap_or_default();
        let damage_found = jetstream.map_or(0, |it| it.shared.damage_found);
        put(
            "millrace",
            json!({
                "consumers_repaired": repaired,
                "damage_found": damage_found,
                "scrub_passes": scrub.passes,
                "scrub_bytes": scrub.bytes,
            }),
        );
        put("memory", json!(totals.memory_bytes));
        put("storage", json!(totals.file_bytes));
        put("reserved_memory", json!(totals.reserved_memory_bytes));
        put("reserved_storage", json!(totals.reserved_file_bytes));
        put("accounts", json!(totals.accounts));
        put("ha_assets", json!(0));
        let api = json!({"level": 5, "total": totals.api_total, "errors": totals.api_errors});
        put("api", api);
        put("server_id", json!(server_id));
        put("now", json!(time_text(now.wall_ns)));
        put("config", self.jetstream_config(host));
        put("limits", json!({}));
        put("streams", json!(totals.streams));
        if wanted.raft {
            put("streams_leader", json!(totals.streams));
        }
        put("consumers", json!(totals.consumers));
        if wanted.raft {
            put("consumers_leader", json!(totals.consumers));
        }
        put("messages", json!(totals.messages));
        put("bytes", json!(totals.memory_bytes + totals.file_bytes));
        if let Some(jetstream) = jetstream.filter(|_| wanted.accounts) {
            let details = self.account_details(now, jetstream, &wanted);
            if !details.is_empty() {
                put("account_details", json!(details));
            }
        }
        put("total", json!(totals.accounts));
        Ok(MonitorAnswer::json(&Value::Object(fields)))
    }

    fn account_details(&self, now: Now, jetstream: &JetStream, wanted: &Wanted<'_>) -> Vec<Value> {
        let accounts = jetstream.accounts.iter();
        let shown = accounts
            .filter(|(_, account)| wanted.account.is_none_or(|only| account.name == only))
            .skip(wanted.offset)
            .take(wanted.limit);
        shown
            .map(|(key, account)| {
                let usage = jetstream.shared.account_usage.get(key);
                let usage = usage.copied().unwrap_or_default();
                // No limit is shown as the largest number, as the reference does.
                let limit = |limit: i64| limit.cast_unsigned();
                let mut detail = json!({
                    "name": account.name,
                    "id": account.name,
                    "memory": usage.memory_bytes,
                    "storage": usage.file_bytes,
                    "reserved_memory": limit(account.limits.max_memory),
                    "reserved_storage": limit(account.limits.max_storage),
                    "accounts": 0,
                    "ha_assets": 0,
                    "api": {"level": 0, "total": account.api_total, "errors": account.api_errors},
                });
                if wanted.streams && !account.streams.is_empty() {
                    detail["stream_detail"] = self.stream_details(now, jetstream, account, wanted);
                }
                detail
            })
            .collect()
    }

    fn stream_details(
        &self,
        now: Now,
        jetstream: &JetStream,
        account: &Account,
        wanted: &Wanted<'_>,
    ) -> Value {
        let leader = &self.broker.identity().server_id;
        let reports = jetstream.reports(now, account).into_iter();
        reports
            .map(|stream| stream_detail(stream, leader, wanted))
            .collect()
    }
}

fn stream_detail(stream: StreamReport, leader: &str, wanted: &Wanted<'_>) -> Value {
    let mut detail = json!({
        "name": stream.name,
        "created": stream.created,
        "cluster": {"leader": leader},
    });
    if wanted.config {
        detail["config"] = json!(stream.config);
    }
    detail["state"] = json!(stream.state);
    let (direct, plain): (Vec<_>, Vec<_>) = stream
        .consumers
        .into_iter()
        .partition(|consumer| consumer.config.direct);
    for (name, consumers, is_wanted) in [
        ("consumer_detail", plain, wanted.consumers),
        (
            "direct_consumer_detail",
            direct,
            wanted.consumers && wanted.direct_consumers,
        ),
    ] {
        if is_wanted && !consumers.is_empty() {
            let shown = consumers.iter();
            detail[name] = shown.map(|info| consumer_detail(info, wanted)).collect();
        }
    }
    detail
}

fn consumer_detail(consumer: &ConsumerInfo, wanted: &Wanted<'_>) -> Value {
    let mut detail = json!(consumer);
    if let Some(fields) = detail.as_object_mut().filter(|_| !wanted.config) {
        fields.shift_remove("config");
    }
    detail
}
