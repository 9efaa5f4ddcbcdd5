//! `/routez`, `/gatewayz`, `/leafz`, `/accountz` and `/accstatz`. This server has no routes,
//! gateways and leaf nodes, and says so.

use millrace_clock::Now;
use millrace_core::AccountId;
use serde_json::{Value, json};

use super::{MonitorAnswer, Query, time_text};
use crate::node::Node;
use crate::system::account_statistics;

impl Node {
    pub(super) fn routez(&self, now: Now) -> MonitorAnswer {
        let identity = self.broker.identity();
        MonitorAnswer::json(&json!({
            "server_id": identity.server_id,
            "server_name": identity.server_name,
            "now": time_text(now.wall_ns),
            "num_routes": 0,
            "routes": [],
        }))
    }

    pub(super) fn gatewayz(&self, now: Now) -> MonitorAnswer {
        MonitorAnswer::json(&json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
            "outbound_gateways": {},
            "inbound_gateways": {},
        }))
    }

    pub(super) fn leafz(&self, now: Now) -> MonitorAnswer {
        MonitorAnswer::json(&json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
            "leafnodes": 0,
            "leafs": [],
        }))
    }

    pub(super) fn accountz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let accounts = self.broker.accounts();
        let mut value = json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
            "system_account": self.broker.account_name(AccountId::SYSTEM),
        });
        match query.text("acc") {
            None => {
                let names: Vec<&str> = accounts.iter().map(|one| one.name.as_str()).collect();
                value["accounts"] = json!(names);
            }
            Some(name) => {
                let account = accounts
                    .iter()
                    .find(|one| one.name == name)
                    .ok_or_else(|| missing(name))?;
                value["account_detail"] = self.account_detail(account);
            }
        }
        Ok(MonitorAnswer::json(&value))
    }

    pub(super) fn accstatz(&self, now: Now, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let unused = query.flag("unused")?;
        let only = query.text("acc");
        let named = query.list("accounts");
        let statistics: Vec<Value> = self
            .broker
            .accounts()
            .iter()
            .filter(|one| only.is_none_or(|only| one.name == only))
            .filter(|one| named.is_empty() || named.contains(&one.name.as_str()))
            .filter(|one| unused || only.is_some() || !named.is_empty() || one.connections > 0)
            .map(account_statistics)
            .collect();
        Ok(MonitorAnswer::json(&json!({
            "server_id": self.broker.identity().server_id,
            "now": time_text(now.wall_ns),
            "account_statz": statistics,
        })))
    }
}

fn missing(name: &str) -> MonitorAnswer {
    MonitorAnswer::text(400, &format!("Account {name} does not exist"))
}
