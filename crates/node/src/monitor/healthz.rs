//! `/healthz`: whether the server, its JetStream, or one account, stream or consumer is well.

use serde_json::json;

use super::{MonitorAnswer, Query};
use crate::engine::EngineHealth;
use crate::node::Node;

impl Node {
    pub(super) fn healthz(&self, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let enabled_only = query.flag("js-enabled-only")? || query.flag("js-enabled")?;
        let server_only = query.flag("js-server-only")? || query.flag("js-meta-only")?;
        let (account, stream, consumer) = (
            query.text("account"),
            query.text("stream"),
            query.text("consumer"),
        );
        if stream.is_some() && account.is_none() {
            return Err(error(
                400,
                "\"account\" must not be empty when checking stream health",
            ));
        }
        if consumer.is_some() && stream.is_none() {
            return Err(error(
                400,
                "\"stream\" must not be empty when checking consumer health",
            ));
        }
        let Some(engine) = &self.engine else {
            // Where JetStream is off by configuration nothing is missing.
            return Ok(well());
        };
        match engine.health() {
            EngineHealth::Running => {}
            EngineHealth::Recovering if enabled_only => {}
            EngineHealth::Recovering => {
                return Err(error(503, "JetStream is still recovering its store"));
            }
            EngineHealth::Failed(reason) => {
                return Err(error(503, &format!("JetStream has failed: {reason}")));
            }
        }
        if !enabled_only
            && !server_only
            && let (Some(account), Some(jetstream)) = (account, engine.jetstream())
        {
            let Some(found) = jetstream
                .accounts
                .values()
                .find(|found| found.name == account)
            else {
                return Err(error(
                    404,
                    &format!("JetStream account {account:?} not found"),
                ));
            };
            if let Some(stream) = stream
                && !found.streams.contains_key(stream)
            {
                return Err(error(
                    404,
                    &format!("JetStream stream {stream:?} not found"),
                ));
            }
        }
        Ok(well())
    }
}

fn well() -> MonitorAnswer {
    MonitorAnswer::compact(200, &json!({"status": "ok"}))
}

fn error(status: u16, text: &str) -> MonitorAnswer {
    let word = if status == 503 {
        "unavailable"
    } else {
        "error"
    };
    MonitorAnswer::compact(status, &json!({"status": word, "error": text}))
}
