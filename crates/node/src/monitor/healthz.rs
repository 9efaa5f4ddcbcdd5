//! `/healthz`: whether the server, its JetStream, or one account, stream or consumer is well; and the
//! three questions of an orchestrator below it. None of them changes anything for clients that are
//! connected: a server that is not ready keeps serving those it has.

use serde_json::{Map, Value, json};

use super::{HostFacts, MonitorAnswer, Query};
use crate::engine::EngineHealth;
use crate::node::Node;

/// What is wrong.
struct Complaint<'a> {
    status: u16,
    kind: &'static str,
    text: String,
    account: Option<&'a str>,
    stream: Option<&'a str>,
    consumer: Option<&'a str>,
}

impl<'a> Complaint<'a> {
    const fn new(status: u16, kind: &'static str, text: String) -> Self {
        Self {
            status,
            kind,
            text,
            account: None,
            stream: None,
            consumer: None,
        }
    }

    fn not_found(kind: &'static str, text: String, wanted: Wanted<'a>) -> Self {
        Self {
            account: wanted.account,
            stream: wanted.stream,
            consumer: wanted.consumer,
            ..Self::new(404, kind, text)
        }
    }

    fn answer(&self, details: bool) -> MonitorAnswer {
        if !details {
            // As the reference has it: what is asked wrongly is an error, all else is unavailable.
            let word = if self.status == 400 {
                "error"
            } else {
                "unavailable"
            };
            let value = json!({"status": word, "error": self.text});
            return MonitorAnswer::compact(self.status, &value);
        }
        let mut fields = Map::new();
        fields.insert("type".to_owned(), json!(self.kind));
        for (name, text) in [
            ("account", self.account),
            ("stream", self.stream),
            ("consumer", self.consumer),
        ] {
            if let Some(text) = text {
                fields.insert(name.to_owned(), json!(text));
            }
        }
        fields.insert("error".to_owned(), json!(self.text));
        let value = json!({"status": "error", "errors": [Value::Object(fields)]});
        MonitorAnswer::compact(self.status, &value)
    }
}

/// What is asked about.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    account: Option<&'a str>,
    stream: Option<&'a str>,
    consumer: Option<&'a str>,
}

impl Node {
    pub(super) fn healthz(&self, query: &Query) -> Result<MonitorAnswer, MonitorAnswer> {
        let enabled_only = query.flag("js-enabled-only")? || query.flag("js-enabled")?;
        let server_only = query.flag("js-server-only")? || query.flag("js-meta-only")?;
        let details = query.flag("details")?;
        let wanted = Wanted {
            account: query.text("account"),
            stream: query.text("stream"),
            consumer: query.text("consumer"),
        };
        let checked = checked_question(wanted)
            .and_then(|()| self.check_jetstream(enabled_only))
            .and_then(|()| match enabled_only || server_only {
                true => Ok(()),
                false => self.check_assets(wanted),
            });
        match checked {
            Ok(()) => Ok(well()),
            Err(complaint) => Err(complaint.answer(details)),
        }
    }

    fn check_jetstream(&self, enabled_only: bool) -> Result<(), Complaint<'static>> {
        // Where JetStream is off by configuration nothing is missing.
        let Some(engine) = &self.engine else {
            return Ok(());
        };
        let text = match engine.health() {
            EngineHealth::Running => return Ok(()),
            EngineHealth::Recovering if enabled_only => return Ok(()),
            EngineHealth::Recovering => "JetStream is still recovering its store".to_owned(),
            EngineHealth::Failed(reason) => format!("JetStream has failed: {reason}"),
        };
        Err(Complaint::new(503, "JETSTREAM", text))
    }

    fn check_assets<'a>(&self, wanted: Wanted<'a>) -> Result<(), Complaint<'a>> {
        let jetstream = self.engine.as_ref().and_then(|engine| engine.jetstream());
        let (Some(account), Some(jetstream)) = (wanted.account, jetstream) else {
            return Ok(());
        };
        let mut accounts = jetstream.accounts.values();
        let Some(found) = accounts.find(|found| found.name == account) else {
            let text = format!("JetStream account {account:?} not found");
            return Err(Complaint::not_found("ACCOUNT", text, wanted));
        };
        let Some(name) = wanted.stream else {
            return Ok(());
        };
        let stream = found.streams.get(name);
        let Some(stream) = stream.and_then(|id| jetstream.streams.get(id)) else {
            let text = format!("JetStream stream {name:?} not found on account {account:?}");
            return Err(Complaint::not_found("STREAM", text, wanted));
        };
        match wanted.consumer {
            Some(consumer) if !stream.consumers.contains_key(consumer) => {
                let text = format!(
                    "JetStream consumer {consumer:?} not found for stream {name:?} on account \
                     {account:?}"
                );
                Err(Complaint::not_found("CONSUMER", text, wanted))
            }
            _ => Ok(()),
        }
    }

    /// Whether new clients are let in and find all that is configured.
    pub(super) fn is_serving(&self, facts: &HostFacts) -> bool {
        facts.accepts_clients && self.check_jetstream(false).is_ok()
    }

    /// `/healthz/startup`: clients were let in, and the store is read or will not be any more.
    pub(super) fn healthz_startup(&self, facts: &HostFacts) -> MonitorAnswer {
        let is_recovering = self
            .engine
            .as_ref()
            .is_some_and(|engine| engine.health() == EngineHealth::Recovering);
        if facts.was_open && !is_recovering {
            return well();
        }
        unavailable("the server is starting")
    }

    /// `/healthz/ready`: send new clients here.
    pub(super) fn healthz_ready(&self, facts: &HostFacts) -> MonitorAnswer {
        match self.check_jetstream(false) {
            Err(complaint) => complaint.answer(false),
            Ok(()) if facts.accepts_clients => well(),
            Ok(()) => unavailable("the server lets no clients in: it starts, or is about to stop"),
        }
    }
}

/// `/healthz/live`: the event loop answers, and that is all it takes. Whatever else is wrong, a
/// restart would cut off clients that are served.
pub(super) fn live() -> MonitorAnswer {
    well()
}

fn checked_question(wanted: Wanted<'_>) -> Result<(), Complaint<'static>> {
    let missing = match (wanted.account, wanted.stream, wanted.consumer) {
        (None, Some(_), _) => "\"account\" must not be empty when checking stream health",
        (_, None, Some(_)) => "\"stream\" must not be empty when checking consumer health",
        _ => return Ok(()),
    };
    Err(Complaint::new(400, "BAD_REQUEST", missing.to_owned()))
}

fn well() -> MonitorAnswer {
    MonitorAnswer::compact(200, &json!({"status": "ok"}))
}

fn unavailable(text: &str) -> MonitorAnswer {
    MonitorAnswer::compact(503, &json!({"status": "unavailable", "error": text}))
}
