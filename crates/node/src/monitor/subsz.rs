//! `/subsz`: subscriptions of clients, those of one account, or those that a message would reach.

use millrace_clock::Now;
use millrace_subject::{is_valid_literal, matches};
use serde_json::{Value, json};

use super::connz::DEFAULT_LIMIT;
use super::{MonitorAnswer, Query, time_text};
use crate::node::Node;

impl Node {
    pub(super) fn subsz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let with_list = query.flag("subs")?;
        let (offset, limit) = (
            query.number("offset", 0)?,
            query.number("limit", DEFAULT_LIMIT)?,
        );
        let test = query.text("test");
        if let Some(subject) = test
            && !is_valid_literal(subject.as_bytes())
        {
            let text = format!("invalid test subject, must be valid publish subject: {subject}");
            return Err(MonitorAnswer::text(400, &text));
        }
        let account = query.text("acc");
        let mut answer = json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
        });
        let statistics = sublist_statistics(self.subscriptions_in(account));
        for (name, value) in statistics.as_object().into_iter().flatten() {
            answer[name] = value.clone();
        }
        answer["total"] = json!(0);
        answer["offset"] = json!(offset);
        answer["limit"] = json!(limit);
        if with_list {
            let list = self.subscriptions_reached(account, test);
            answer["total"] = json!(list.len());
            let shown: Vec<Value> = list.into_iter().skip(offset).take(limit).collect();
            if !shown.is_empty() {
                answer["subscriptions_list"] = json!(shown);
            }
        }
        Ok(MonitorAnswer::json(&answer))
    }

    /// How many there are; none in an account that is not known.
    fn subscriptions_in(&self, account: Option<&str>) -> usize {
        let Some(name) = account else {
            return self.broker.subscription_count();
        };
        let accounts = self.broker.accounts();
        let found = accounts.iter().find(|one| one.name == name);
        found.map_or(0, |one| one.subscriptions)
    }

    /// In the order of connections and their subscriptions.
    fn subscriptions_reached(&self, account: Option<&str>, test: Option<&str>) -> Vec<Value> {
        let mut list = Vec::new();
        for connection in self.broker.connections() {
            if account.is_some_and(|name| connection.account_name != name) {
                continue;
            }
            let subscriptions = self.broker.subscriptions_of(connection.id);
            let reached = subscriptions
                .iter()
                .filter(|one| test.is_none_or(|subject| matches(&one.subject, subject.as_bytes())));
            list.extend(reached.map(|one| self.subscription_value(one, true)));
        }
        list
    }
}

/// The reference's counters of its table of subscriptions; of them there is one here.
pub(super) fn sublist_statistics(subscriptions: usize) -> Value {
    json!({
        "num_subscriptions": subscriptions,
        "num_cache": 0,
        "num_inserts": 0,
        "num_removes": 0,
        "num_matches": 0,
        "cache_hit_rate": 0,
        "max_fanout": 0,
        "avg_fanout": 0,
    })
}
