//! Looks inside the server: `/raftz`, `/ipqueuesz`, `/debug/vars`, and our own `/explainz`.

use millrace_clock::Now;
use millrace_jetstream::consumer::Explanation;
use serde_json::{Map, Value, json};

use super::{HostFacts, MonitorAnswer, Query};
use crate::node::Node;

/// Raft groups between servers: there are none yet, and a server on its own says so as the
/// reference's does.
pub(super) fn raftz() -> MonitorAnswer {
    MonitorAnswer::text(404, "No Raft nodes registered")
}

/// What the reference's runtime publishes, as far as there is something like it here.
pub(super) fn variables(facts: &HostFacts) -> MonitorAnswer {
    let memory = facts.memory_bytes;
    MonitorAnswer::json(&json!({
        "cmdline": facts.command_line,
        "memstats": {"Alloc": memory, "Sys": memory},
    }))
}

impl Node {
    /// What waits inside the server; without `all` only where something does.
    pub(super) fn ipqueuesz(&self, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let all = query.flag("all")?;
        let wanted = query.text("queues").unwrap_or_default();
        let jetstream = self.engine.as_ref().and_then(|engine| engine.jetstream());
        let shared = jetstream.map(|jetstream| &jetstream.shared);
        let count =
            |count: fn(&millrace_jetstream::shared::Shared) -> usize| shared.map_or(0, count);
        let mut fields = Map::new();
        for (name, pending) in [
            ("System requests", self.system_requests()),
            (
                "JetStream batches in flight",
                count(|it| it.batches_in_flight),
            ),
            (
                "JetStream fast ingest in flight",
                count(|it| it.fast_in_flight),
            ),
            (
                "JetStream indexes to be read",
                count(|it| it.indexes_wanted.len()),
            ),
            ("JetStream API answers", count(|it| it.finished.len())),
        ] {
            if (all || pending > 0) && name.contains(wanted) {
                fields.insert(name.to_owned(), json!({"pending": pending}));
            }
        }
        Ok(MonitorAnswer::json(&Value::Object(fields)))
    }

    /// Why a consumer does not deliver: `$JS.API.CONSUMER.EXPLAIN` for who looks at this port.
    pub(super) fn explainz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let names = (
            query.text("acc"),
            query.text("stream"),
            query.text("consumer"),
        );
        let (account, Some(stream), Some(consumer)) = names else {
            let text = "\"stream\" and \"consumer\" must be given";
            return Err(MonitorAnswer::text(400, text));
        };
        let account = account.unwrap_or("$G");
        let jetstream = self.engine.as_ref().and_then(|engine| engine.jetstream());
        let explained: Option<Explanation> =
            jetstream.and_then(|it| it.explanation(now, account, stream, consumer));
        let missing = || MonitorAnswer::text(404, "there is no such consumer");
        explained
            .map(|explanation| MonitorAnswer::json(&json!(explanation)))
            .ok_or_else(missing)
    }
}
