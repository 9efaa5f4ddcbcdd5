//! `/jsz`: JetStream as a whole, its accounts and streams.

use millrace_clock::Now;
use serde_json::{Map, Value, json};

use super::{MonitorAnswer, Query, time_text};
use crate::node::Node;

/// Accounts shown at once unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 1024;

impl Node {
    pub(super) fn jsz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let streams = query.flag("streams")? || query.flag("consumers")?;
        let accounts = query.flag("accounts")? || streams;
        let offset = query.number("offset", 0)?;
        let limit = query.number("limit", DEFAULT_LIMIT)?;
        let account = query.text("acc");
        let server_id = self.broker.identity().server_id.clone();
        let (Some(host), Some(engine)) = (&self.jetstream_host, &self.engine) else {
            return Ok(MonitorAnswer::json(&json!({
                "server_id": server_id,
                "now": time_text(now.wall_ns),
                "disabled": true,
            })));
        };
        let totals = engine
            .jetstream()
            .map(|jetstream| jetstream.totals())
            .unwrap_or_default();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("memory", json!(totals.memory_bytes));
        put("storage", json!(totals.file_bytes));
        put("reserved_memory", json!(totals.reserved_memory_bytes));
        put("reserved_storage", json!(totals.reserved_file_bytes));
        put("accounts", json!(totals.accounts));
        put("ha_assets", json!(0));
        put(
            "api",
            json!({"level": 5, "total": totals.api_total, "errors": totals.api_errors}),
        );
        put("server_id", json!(server_id));
        put("now", json!(time_text(now.wall_ns)));
        put(
            "config",
            json!({
                "max_memory": host.max_memory_bytes,
                "max_storage": host.max_file_bytes,
                "store_dir": host.store_dir,
                "strict": self.options.jetstream.strict,
            }),
        );
        put("limits", json!({}));
        put("streams", json!(totals.streams));
        put("consumers", json!(totals.consumers));
        put("messages", json!(totals.messages));
        put("bytes", json!(totals.memory_bytes + totals.file_bytes));
        if accounts || account.is_some() {
            let details = self.account_details(account, streams, offset, limit);
            put("account_details", json!(details));
        }
        put("total", json!(totals.accounts));
        Ok(MonitorAnswer::json(&Value::Object(fields)))
    }

    fn account_details(
        &self,
        only: Option<&str>,
        with_streams: bool,
        offset: usize,
        limit: usize,
    ) -> Vec<Value> {
        let Some(jetstream) = self.engine.as_ref().and_then(|engine| engine.jetstream()) else {
            return Vec::new();
        };
        jetstream
            .accounts
            .values()
            .filter(|account| only.is_none_or(|only| account.name == only))
            .skip(offset)
            .take(limit)
            .map(|account| {
                let mut detail = json!({
                    "name": account.name,
                    "id": account.name,
                    "api": {"total": account.api_total, "errors": account.api_errors},
                });
                if with_streams {
                    let names: Vec<Value> = account
                        .streams
                        .keys()
                        .map(|name| json!({"name": name}))
                        .collect();
                    detail["stream_detail"] = json!(names);
                }
                detail
            })
            .collect()
    }
}
