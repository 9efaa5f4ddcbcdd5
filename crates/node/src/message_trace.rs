//! Traces of messages as they are published (spec core/14 §14.1). What they contain is collected by
//! the broker.

use millrace_clock::Now;
use millrace_core::{EndpointId, MessageTrace, TraceKind, TraceStep};
use serde_json::{Map, Value, json};

use crate::monitor::time_text;
use crate::node::Node;

/// A client, in the words of the event.
const KIND_CLIENT: u32 = 0;

impl Node {
    /// Publishes the traces of messages since the last call.
    pub(crate) fn publish_message_traces(&mut self, now: Now) {
        let mut traces = Vec::new();
        self.broker.take_message_traces(&mut traces);
        for trace in traces {
            let event = self.trace_event(now, &trace);
            let payload = serde_json::to_vec(&event).unwrap_or_default();
            let (account, destination) = (trace.account, &trace.destination);
            self.broker
                .publish(now, account, destination, b"", b"", &payload);
        }
    }

    fn trace_event(&mut self, now: Now, trace: &MessageTrace) -> Value {
        let mut events = Vec::new();
        for step in &trace.steps {
            events.extend(self.step_value(step));
        }
        json!({
            "server": self.server_value(now),
            "request": {"header": trace.headers, "msgsize": trace.message_bytes},
            "events": events,
        })
    }

    /// One step; `None` for what the reference does not tell either.
    fn step_value(&self, step: &TraceStep) -> Option<Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        let kind = match &step.kind {
            TraceKind::Ingress { .. } => "in",
            TraceKind::Mapped { .. } => "sm",
            TraceKind::StreamExport { .. } => "se",
            TraceKind::ServiceImport { .. } => "si",
            TraceKind::Inside { .. } => "js",
            TraceKind::Egress { .. } => "eg",
        };
        put("type", json!(kind));
        put("ts", json!(time_text(step.at_wall_ns)));
        match &step.kind {
            TraceKind::Ingress {
                client,
                name,
                account,
                subject,
            } => {
                put("kind", json!(KIND_CLIENT));
                put("cid", json!(client));
                if !name.is_empty() {
                    put("name", json!(name));
                }
                put("acc", json!(account));
                put("subj", text(subject));
            }
            TraceKind::Mapped { to } => {
                put("to", text(to));
            }
            TraceKind::StreamExport { account, to } => {
                put("acc", json!(account));
                put("to", text(to));
            }
            TraceKind::ServiceImport { account, from, to } => {
                put("acc", json!(account));
                put("from", text(from));
                put("to", text(to));
            }
            TraceKind::Inside { endpoint, subject } => {
                put("stream", json!(self.stream_of(*endpoint)?));
                put("subject", text(subject));
            }
            TraceKind::Egress { .. } => add_egress(&step.kind, &mut fields),
        }
        Some(Value::Object(fields))
    }

    /// The stream whose publishes a receiver takes.
    fn stream_of(&self, endpoint: EndpointId) -> Option<String> {
        self.engine.as_ref()?.stream_of(endpoint)
    }
}

fn text(bytes: &[u8]) -> Value {
    json!(String::from_utf8_lossy(bytes))
}

/// What a client got, or why it did not.
fn add_egress(kind: &TraceKind, fields: &mut Map<String, Value>) {
    let TraceKind::Egress {
        client,
        name,
        account,
        subscription,
        queue,
        error,
    } = kind
    else {
        return;
    };
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("kind", json!(KIND_CLIENT));
    put("cid", json!(client));
    for (field, value) in [("name", name), ("acc", account)] {
        if !value.is_empty() {
            put(field, json!(value));
        }
    }
    put("sub", text(subscription));
    if !queue.is_empty() {
        put("queue", text(queue));
    }
    if !error.is_empty() {
        put("error", json!(error));
    }
}
