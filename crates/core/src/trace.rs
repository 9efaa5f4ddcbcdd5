//! Protocol lines in the log (`trace`), in the form tools know: `<<- [SUB foo 1]` came in,
//! `->> [MSG foo 1 2]` went out, `<-> [DELSUB 1]` happened here. Secrets are not shown.

use millrace_wire::client::Operation;
use millrace_wire::quote::quoted;

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::effects::LogLevel;
use crate::ids::AccountId;
use crate::publish::Message;
use crate::subscription::Owner;

/// Fields of CONNECT whose values are secret.
const SECRETS: [&str; 5] = ["pass", "auth_token", "nkey", "sig", "jwt"];

impl Broker {
    /// Logs a line about the connection if protocol lines are wanted.
    pub(crate) fn trace(&mut self, slot: u32, line: &str) {
        if !self.is_tracing {
            return;
        }
        let account = self
            .sessions
            .get(slot as usize)
            .and_then(|session| session.account);
        if account == Some(AccountId::SYSTEM) && !self.options.log.trace_verbose {
            return;
        }
        self.log_for(slot, LogLevel::Trace, line);
    }

    pub(crate) fn trace_operation(&mut self, slot: u32, operation: &Operation<'_>) {
        let line = match operation {
            Operation::Publish {
                subject,
                reply,
                headers,
                payload,
                ..
            } => {
                let verb = if headers.is_empty() { "PUB" } else { "HPUB" };
                let line = control_line(verb, &[subject], *reply, headers, payload);
                self.trace(slot, &format!("<<- [{line}]"));
                if headers.is_empty() && payload.is_empty() {
                    return;
                }
                let shown = self.shown_payload(headers, payload);
                format!("<<- MSG_PAYLOAD: [{shown}]")
            }
            Operation::Subscribe {
                subject,
                queue,
                sid,
            } => {
                let parts: Vec<_> = [Some(*subject), *queue, Some(*sid)]
                    .into_iter()
                    .flatten()
                    .map(String::from_utf8_lossy)
                    .collect();
                format!("<<- [SUB {}]", parts.join(" "))
            }
            Operation::Unsubscribe { sid, max } => {
                let max = max.map(|max| format!(" {max}")).unwrap_or_default();
                format!("<<- [UNSUB {}{max}]", String::from_utf8_lossy(sid))
            }
            Operation::Connect(json) => {
                format!("<<- [CONNECT {}]", redacted(&String::from_utf8_lossy(json)))
            }
            Operation::Ping => "<<- [PING]".to_owned(),
            Operation::Pong => "<<- [PONG]".to_owned(),
            Operation::Info(_) | Operation::Ok | Operation::Error(_) => return,
        };
        self.trace(slot, &line);
    }

    /// A message is on its way to the owner of a subscription.
    pub(crate) fn trace_delivery(&mut self, key: SubscriptionKey, message: &Message<'_>) {
        let Some(record) = self.subscriptions.get(key) else {
            return;
        };
        let Owner::Session(slot) = record.owner else {
            return;
        };
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let headers = if session.client.headers {
            message.headers
        } else {
            b""
        };
        let verb = if headers.is_empty() { "MSG" } else { "HMSG" };
        let reply = (!message.reply.is_empty()).then_some(message.reply);
        let names = [message.subject, record.sid()];
        let line = control_line(verb, &names, reply, headers, message.payload);
        let shown = self.shown_payload(headers, message.payload);
        let is_empty = headers.is_empty() && message.payload.is_empty();
        self.trace(slot, &format!("->> [{line}]"));
        if !is_empty {
            self.trace(slot, &format!("->> MSG_PAYLOAD: [{shown}]"));
        }
    }

    fn shown_payload(&self, headers: &[u8], payload: &[u8]) -> String {
        let options = &self.options.log;
        let mut bytes = headers.to_vec();
        if !options.trace_headers {
            bytes.extend_from_slice(payload);
        }
        let limit = options.max_traced_message_length;
        if limit > 0 && bytes.len() > limit {
            bytes.truncate(limit);
            return format!("{}...", quoted(&bytes));
        }
        quoted(&bytes)
    }
}

fn control_line(
    verb: &str,
    names: &[&[u8]],
    reply: Option<&[u8]>,
    headers: &[u8],
    payload: &[u8],
) -> String {
    let mut line = verb.to_owned();
    for name in names.iter().copied().chain(reply) {
        line.push(' ');
        line.push_str(&String::from_utf8_lossy(name));
    }
    if !headers.is_empty() {
        line.push_str(&format!(" {}", headers.len()));
    }
    line.push_str(&format!(" {}", headers.len() + payload.len()));
    line
}

/// The JSON of a CONNECT with secret values replaced.
fn redacted(json: &str) -> String {
    let mut text = json.to_owned();
    for key in SECRETS {
        // Lower-casing ASCII keeps all positions.
        let lower = text.to_ascii_lowercase();
        let Some(at) = lower.find(&format!("\"{key}\"")) else {
            continue;
        };
        let after_key = at + key.len() + 2;
        let Some(value) = text.get(after_key..) else {
            continue;
        };
        let Some(open) = value.find('"') else {
            continue;
        };
        let start = after_key + open + 1;
        let rest = text.get(start..).unwrap_or_default();
        let end = start + string_length(rest);
        text.replace_range(start..end, "[REDACTED]");
    }
    text
}

/// Bytes up to the closing quote of a JSON string.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            '"' if !is_escaped => return place,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn secrets_of_connect_are_not_shown() {
        let json = r#"{"user":"u","PASS": "a\"b","auth_token":"t","name":"pass"}"#;
        let shown = r#"{"user":"u","PASS": "[REDACTED]","auth_token":"[REDACTED]","name":"pass"}"#;
        assert_eq!(redacted(json), shown);
        assert_eq!(redacted(r#"{"pass":"open"#), r#"{"pass":"[REDACTED]"#);
    }
}
