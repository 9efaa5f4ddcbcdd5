//! `/varz`: general facts and counters.

use millrace_clock::Now;
use millrace_config::Options;
use millrace_config::options::DEFAULT_HOST;
use millrace_config::options::SyncInterval;
use serde_json::{Map, Value, json};

use super::{HostFacts, MonitorAnswer, time_text, uptime_text};
use crate::node::Node;
use crate::settings::JetStreamHostSettings;

impl Node {
    pub(super) fn varz(&self, now: Now, facts: &HostFacts) -> MonitorAnswer {
        MonitorAnswer::json(&self.varz_value(now, facts))
    }

    pub(crate) fn varz_value(&self, now: Now, facts: &HostFacts) -> Value {
        let mut fields = Map::new();
        self.put_identity(&mut fields);
        self.put_limits(facts, &mut fields);
        fields.insert("jetstream".to_owned(), self.varz_jetstream());
        self.put_counters(now, facts, &mut fields);
        Value::Object(fields)
    }

    fn put_identity(&self, fields: &mut Map<String, Value>) {
        let identity = self.broker.identity();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("server_id", json!(identity.server_id));
        put("server_name", json!(identity.server_name));
        put("version", json!(millrace_core::COMPATIBLE_VERSION));
        put("millrace", json!(millrace_core::MILLRACE_VERSION));
        put("proto", json!(1));
        if !identity.git_commit.is_empty() {
            put("git_commit", json!(identity.git_commit));
        }
        put("go", json!(""));
        let (host, port) = self.broker.client_place();
        put("host", json!(host));
        put("port", json!(port));
        let authorization = &self.options.authorization;
        if authorization.user.is_some()
            || authorization.token.is_some()
            || !authorization.users.is_empty()
            || self
                .options
                .accounts
                .iter()
                .any(|account| !account.users.is_empty())
        {
            put("auth_required", json!(true));
        }
        if let Some(tls) = &self.options.tls {
            put("tls_required", json!(!self.options.allow_non_tls));
            put("tls_verify", json!(tls.verify));
        }
    }

    fn put_limits(&self, facts: &HostFacts, fields: &mut Map<String, Value>) {
        let client = &self.options.client;
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("max_connections", json!(client.max_connections));
        if client.max_subscriptions > 0 {
            put("max_subscriptions", json!(client.max_subscriptions));
        }
        put("ping_interval", json!(client.ping_interval_ns));
        put("ping_max", json!(client.ping_max));
        put("http_host", json!(self.options.monitor.host));
        put("http_port", json!(facts.http_port));
        put(
            "http_base_path",
            json!(self.options.monitor.base_path.trim_end_matches('/')),
        );
        put("https_port", json!(facts.https_port));
        let timeout_s = self.options.authorization.timeout_ns as f64 / Now::SECOND_NS as f64;
        put("auth_timeout", json!(timeout_s));
        put("max_control_line", json!(client.max_control_line));
        put("max_payload", json!(client.max_payload));
        put("max_pending", json!(client.max_pending));
        for block in ["cluster", "gateway", "leaf", "mqtt"] {
            put(block, json!({}));
        }
        put("websocket", self.websocket_value());
        put("write_deadline", json!(client.write_deadline_ns));
        if !self.options.server_tags.is_empty() {
            put("tags", json!(self.options.server_tags));
        }
        put("feature_flags", json!(Options::flags_in_effect()));
        if !self.options.server_metadata.is_empty() {
            put("metadata", json!(self.options.server_metadata));
        }
    }

    /// The `websocket` block, without what is not set.
    fn websocket_value(&self) -> Value {
        let options = &self.options.websocket;
        let mut fields = Map::new();
        let Some((_, port)) = self.broker.identity().websocket.as_ref() else {
            return Value::Object(fields);
        };
        let host = if options.host.is_empty() {
            DEFAULT_HOST
        } else {
            &options.host
        };
        let mut put = |name: &str, value: Value, is_set: bool| {
            if is_set {
                fields.insert(name.to_owned(), value);
            }
        };
        let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default());
        put("host", json!(host), true);
        put("port", json!(port), true);
        put(
            "advertise",
            text(&options.advertise),
            options.advertise.is_some(),
        );
        put(
            "no_auth_user",
            text(&options.no_auth_user),
            options.no_auth_user.is_some(),
        );
        put(
            "jwt_cookie",
            text(&options.jwt_cookie),
            options.jwt_cookie.is_some(),
        );
        let timeout = options.handshake_timeout_ns;
        put("handshake_timeout", json!(timeout), timeout > 0);
        let seconds = options
            .authorization_timeout_ns
            .map_or(0.0, |ns| ns as f64 / 1e9);
        put("auth_timeout", json!(seconds), seconds > 0.0);
        put("no_tls", json!(true), options.no_tls);
        put("same_origin", json!(true), options.same_origin);
        let origins = &options.allowed_origins;
        put("allowed_origins", json!(origins), !origins.is_empty());
        put("compression", json!(true), options.compression);
        Value::Object(fields)
    }

    fn put_counters(&self, now: Now, facts: &HostFacts, fields: &mut Map<String, Value>) {
        let counters = self.broker.counters();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("start", json!(time_text(self.started.wall_ns)));
        put("now", json!(time_text(now.wall_ns)));
        put("uptime", json!(uptime_text(now, self.started)));
        put("mem", json!(facts.memory_bytes));
        put("cores", json!(facts.cores));
        put("gomaxprocs", json!(facts.cores));
        put("cpu", json!(facts.cpu_percent));
        put("connections", json!(self.broker.connection_count()));
        put("total_connections", json!(counters.total_connections));
        for none in ["routes", "remotes", "leafnodes"] {
            put(none, json!(0));
        }
        for (name, value) in [
            ("in_msgs", counters.in_msgs),
            ("in_bytes", counters.in_bytes),
            ("in_client_msgs", counters.in_msgs),
            ("in_client_bytes", counters.in_bytes),
            ("out_msgs", counters.out_msgs),
            ("out_bytes", counters.out_bytes),
            ("out_client_msgs", counters.out_msgs),
            ("out_client_bytes", counters.out_bytes),
            ("slow_consumers", counters.slow_consumers),
            ("stale_connections", counters.stale_connections),
            ("stalled_clients", counters.stalled_clients),
        ] {
            put(name, json!(value));
        }
        put("subscriptions", json!(self.broker.subscription_count()));
        put("http_req_stats", json!(self.http_requests));
        put("config_load_time", json!(time_text(self.started.wall_ns)));
        put("config_digest", json!(self.options.config_digest));
        if let Some(name) = self
            .broker
            .accounts()
            .get(1)
            .map(|account| account.name.clone())
        {
            put("system_account", json!(name));
        }
        put("slow_consumer_stats", by_kind(counters.slow_consumers));
        put(
            "stale_connection_stats",
            by_kind(counters.stale_connections),
        );
    }

    /// What `/varz` and `/jsz` show of JetStream's configuration.
    pub(super) fn jetstream_config(&self, host: &JetStreamHostSettings) -> Value {
        let mut config = json!({
            "max_memory": host.max_memory_bytes,
            "max_storage": host.max_file_bytes,
            "store_dir": host.store_dir,
        });
        match self.options.jetstream.sync_interval {
            SyncInterval::Unset | SyncInterval::Always => config["sync_always"] = json!(true),
            SyncInterval::Interval { interval_ns } => config["sync_interval"] = json!(interval_ns),
        }
        if let Some(domain) = &self.options.jetstream.domain {
            config["domain"] = json!(domain);
        }
        config["strict"] = json!(self.options.jetstream.strict);
        config
    }

    fn varz_jetstream(&self) -> Value {
        let (Some(host), Some(engine)) = (&self.jetstream_host, &self.engine) else {
            return json!({});
        };
        let totals = engine
            .jetstream()
            .map(|jetstream| jetstream.totals())
            .unwrap_or_default();
        json!({
            "config": self.jetstream_config(host),
            "stats": {
                "memory": totals.memory_bytes,
                "storage": totals.file_bytes,
                "reserved_memory": totals.reserved_memory_bytes,
                "reserved_storage": totals.reserved_file_bytes,
                "accounts": totals.accounts,
                "ha_assets": 0,
                "api": {
                    "level": 5,
                    "total": totals.api_total,
                    "errors": totals.api_errors,
                },
                "journal_bytes": engine.journal_bytes(),
            },
            "limits": {},
        })
    }
}

/// A counter of clients beside those of peers that this server does not have.
fn by_kind(clients: u64) -> Value {
    json!({"clients": clients, "routes": 0, "gateways": 0, "leafs": 0})
}
