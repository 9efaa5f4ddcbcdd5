//! `/connz`: connections and their subscriptions.

use millrace_clock::{Now, go_duration};
use millrace_core::{ConnectionId, ConnectionInfo, SubscriptionInfo};
use serde_json::{Map, Value, json};

use super::{MonitorAnswer, Query, client_type, time_text, uptime_text};
use crate::node::Node;

/// Connections or subscriptions shown at once unless `limit` says otherwise.
pub(super) const DEFAULT_LIMIT: usize = 1024;

/// How much of a connection's subscriptions is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subscriptions {
    None,
    Names,
    Detail,
}

impl Node {
    pub(super) fn connz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let subscriptions = match query.text("subs") {
            Some("detail") => Subscriptions::Detail,
            _ if query.flag("subs")? => Subscriptions::Names,
            _ => Subscriptions::None,
        };
        let with_auth = query.flag("auth")?;
        let (offset, limit) = (
            query.number("offset", 0)?,
            query.number("limit", DEFAULT_LIMIT)?,
        );
        let mut found = match query.text("state") {
            None | Some("open") => self.broker.connections(),
            Some("closed") => self.broker.closed_connections(),
            Some("any" | "all") => {
                let mut all = self.broker.connections();
                all.extend(self.broker.closed_connections());
                all
            }
            Some(other) => {
                let text = format!("Error decoding state for {other}");
                return Err(MonitorAnswer::text(400, &text));
            }
        };
        if let Some(account) = query.text("acc") {
            found.retain(|connection| connection.account_name == account);
        }
        sort(&mut found, now, query)?;
        // What one asks for by name does not change how many there are.
        let total = found.len();
        if let Some(user) = query.text("user") {
            found.retain(|connection| connection.authorized_user == user);
        }
        let only = query.connection()?;
        if let Some(id) = only {
            found.retain(|connection| connection.id == ConnectionId(id));
        }
        let limit = if only.is_some() { 1 } else { limit };
        let shown: Vec<Value> = found
            .iter()
            .skip(offset)
            .take(limit)
            .map(|connection| self.connection_value(now, connection, subscriptions, with_auth))
            .collect();
        Ok(MonitorAnswer::json(&json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
            "num_connections": shown.len(),
            "total": total,
            "offset": offset,
            "limit": limit,
            "connections": shown,
        })))
    }

    fn connection_value(
        &self,
        now: Now,
        connection: &ConnectionInfo,
        subscriptions: Subscriptions,
        with_auth: bool,
    ) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("cid", json!(connection.id.0));
        put("kind", json!("Client"));
        put("type", json!(client_type(connection.kind)));
        put(
            "ip",
            json!(connection.ip.map(|ip| ip.to_string()).unwrap_or_default()),
        );
        put("port", json!(connection.port));
        put("start", json!(time_text(connection.started.wall_ns)));
        put(
            "last_activity",
            json!(time_text(connection.last_activity.wall_ns)),
        );
        let end = connection.stopped.map_or(now, |(at, _)| at);
        if let Some((at, reason)) = connection.stopped {
            put("stop", json!(time_text(at.wall_ns)));
            put("reason", json!(reason.text()));
        }
        if connection.round_trip_ns > 0 {
            let rtt = i64::try_from(connection.round_trip_ns).unwrap_or(i64::MAX);
            put("rtt", json!(go_duration::format(rtt)));
        }
        put("uptime", json!(uptime_text(end, connection.started)));
        put("idle", json!(uptime_text(end, connection.last_activity)));
        put("pending_bytes", json!(connection.pending_bytes));
        put("in_msgs", json!(connection.in_msgs));
        put("out_msgs", json!(connection.out_msgs));
        put("in_bytes", json!(connection.in_bytes));
        put("out_bytes", json!(connection.out_bytes));
        put("subscriptions", json!(connection.subscriptions));
        for (name, value) in [
            ("name", &connection.name),
            ("lang", &connection.lang),
            ("version", &connection.version),
        ] {
            if !value.is_empty() {
                put(name, json!(value));
            }
        }
        if let Some(tls) = &connection.tls {
            put("tls_version", json!(tls.version));
            put("tls_cipher_suite", json!(tls.cipher_suite));
        }
        if with_auth && !connection.authorized_user.is_empty() {
            put("authorized_user", json!(connection.authorized_user));
            put("account", json!(connection.account_name));
        }
        self.put_subscriptions(connection.id, subscriptions, &mut fields);
        Value::Object(fields)
    }

    fn put_subscriptions(
        &self,
        id: ConnectionId,
        subscriptions: Subscriptions,
        fields: &mut Map<String, Value>,
    ) {
        if subscriptions == Subscriptions::None {
            return;
        }
        let list = self.broker.subscriptions_of(id);
        if subscriptions == Subscriptions::Names {
            let names: Vec<_> = list
                .iter()
                .map(|one| String::from_utf8_lossy(&one.subject))
                .collect();
            fields.insert("subscriptions_list".to_owned(), json!(names));
        } else {
            let details: Vec<Value> = list
                .iter()
                .map(|one| self.subscription_value(one, false))
                .collect();
            fields.insert("subscriptions_list_detail".to_owned(), json!(details));
        }
    }

    /// Beside its connection a subscription does not name its account again.
    pub(super) fn subscription_value(
        &self,
        subscription: &SubscriptionInfo,
        with_account: bool,
    ) -> Value {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        if with_account {
            let name = self.broker.account_name(subscription.account);
            put("account", json!(name));
        }
        put(
            "subject",
            json!(String::from_utf8_lossy(&subscription.subject)),
        );
        if !subscription.queue.is_empty() {
            put(
                "qgroup",
                json!(String::from_utf8_lossy(&subscription.queue)),
            );
        }
        put("sid", json!(String::from_utf8_lossy(&subscription.sid)));
        put("msgs", json!(subscription.delivered));
        if subscription.max > 0 {
            put("max", json!(subscription.max));
        }
        put("cid", json!(subscription.id.0));
        Value::Object(fields)
    }
}

/// Sizes descend, ids and times ascend, as in the reference.
fn sort(found: &mut [ConnectionInfo], now: Now, query: &Query) -> Result<(), MonitorAnswer> {
    use std::cmp::Reverse;
    match query.text("sort") {
        None | Some("cid" | "start" | "uptime") => found.sort_by_key(|one| one.id),
        Some("subs") => found.sort_by_key(|one| Reverse(one.subscriptions)),
        Some("pending") => found.sort_by_key(|one| Reverse(one.pending_bytes)),
        Some("msgs_to") => found.sort_by_key(|one| Reverse(one.out_msgs)),
        Some("msgs_from") => found.sort_by_key(|one| Reverse(one.in_msgs)),
        Some("bytes_to") => found.sort_by_key(|one| Reverse(one.out_bytes)),
        Some("bytes_from") => found.sort_by_key(|one| Reverse(one.in_bytes)),
        Some("last") => found.sort_by_key(|one| Reverse(one.last_activity)),
        Some("idle") => {
            found.sort_by_key(|one| Reverse(now.wall_ns.saturating_sub(one.last_activity.wall_ns)));
        }
        Some("rtt") => found.sort_by_key(|one| Reverse(one.round_trip_ns)),
        Some("stop" | "reason") if query.text("state") == Some("closed") => {
            found.sort_by_key(|one| one.stopped);
        }
        Some(by @ ("stop" | "reason")) => {
            let text = format!("sort by {by} only valid on closed connections");
            return Err(MonitorAnswer::text(400, &text));
        }
        Some(other) => {
            return Err(MonitorAnswer::text(
                400,
                &format!("invalid sorting option: {other}"),
            ));
        }
    }
    Ok(())
}
