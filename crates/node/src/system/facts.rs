//! What a server says of itself in system answers: who it is, its counters, and whether a filter
//! means it.

use millrace_clock::Now;
use millrace_config::Options;
use serde_json::{Map, Value, json};

use crate::monitor::{HostFacts, time_text};
use crate::node::Node;

/// `flags`: JetStream is on.
const FLAG_JETSTREAM: u64 = 1;

impl Node {
    /// The `server` object. Each call counts.
    pub(crate) fn server_value(&mut self, now: Now) -> Value {
        self.system.sequence += 1;
        let identity = self.broker.identity();
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("name", json!(identity.server_name));
        put("host", json!(self.broker.client_place().0));
        put("id", json!(identity.server_id));
        if !identity.domain.is_empty() {
            put("domain", json!(identity.domain));
        }
        put("ver", json!(millrace_core::COMPATIBLE_VERSION));
        if !self.options.server_tags.is_empty() {
            put("tags", json!(self.options.server_tags));
        }
        if !self.options.server_metadata.is_empty() {
            put("metadata", json!(self.options.server_metadata));
        }
        put("feature_flags", json!(Options::flags_in_effect()));
        let has_jetstream = self.engine.is_some();
        put("jetstream", json!(has_jetstream));
        let flags = if has_jetstream { FLAG_JETSTREAM } else { 0 };
        put("flags", json!(flags));
        put("seq", json!(self.system.sequence));
        put("time", json!(time_text(now.wall_ns)));
        Value::Object(fields)
    }

    /// The answer to IDZ.
    pub(super) fn identity_value(&self) -> Value {
        let identity = self.broker.identity();
        json!({
            "name": identity.server_name,
            "host": self.broker.client_place().0,
            "id": identity.server_id,
        })
    }

    /// `statsz`.
    pub(super) fn statistics(&self, now: Now, facts: &HostFacts) -> Value {
        let counters = self.broker.counters();
        let accounts = self.broker.accounts();
        let active = accounts.iter().filter(|one| one.connections > 0).count();
        let sent = json!({"msgs": counters.out_msgs, "bytes": counters.out_bytes});
        let received = json!({"msgs": counters.in_msgs, "bytes": counters.in_bytes});
        let mut value = json!({
            "start": time_text(self.started.wall_ns),
            "mem": facts.memory_bytes,
            "cores": facts.cores,
            "cpu": facts.cpu_percent,
            "connections": self.broker.connection_count(),
            "total_connections": counters.total_connections,
            "active_accounts": active,
            "subscriptions": self.broker.subscription_count(),
            "sent": sent,
            "sent_to_clients": sent,
            "received": received,
            "received_from_clients": received,
            "slow_consumers": counters.slow_consumers,
            "active_servers": 1,
            "gomaxprocs": facts.cores,
        });
        if self.engine.is_some()
            && let Some(jetstream) = self.varz_value(now, facts).get("jetstream")
        {
            value["jetstream"] = jetstream.clone();
        }
        value
    }

    /// Whether the filter among a request's options means this server.
    pub(super) fn is_chosen_by(&self, options: &Value) -> bool {
        let identity = self.broker.identity();
        let exact = options["exact_match"].as_bool().unwrap_or(false);
        let fits = |key: &str, value: &str| match options[key].as_str() {
            None | Some("") => true,
            Some(wanted) if exact => value == wanted,
            Some(wanted) => value.contains(wanted),
        };
        let tags = options["tags"].as_array().into_iter().flatten();
        let mut tags = tags.filter_map(Value::as_str);
        let has_tag = |wanted: &str| {
            let mut own = self.options.server_tags.iter();
            own.any(|tag| tag.eq_ignore_ascii_case(wanted))
        };
        let domain = options["domain"].as_str().unwrap_or_default();
        fits("server_name", &identity.server_name)
            && fits("cluster", &identity.cluster)
            && fits("host", &self.broker.client_place().0)
            && tags.all(has_tag)
            && (domain.is_empty() || domain == identity.domain)
    }
}
