//! Account tokens over the wire: updated, looked up, listed, packed and deleted (spec core/11
//! §11.6). An answer that something was stored leaves only after the host has stored it.

use bytes::Bytes;
use millrace_auth::operator::{TokenChange, delete_accounts, update_account};
use millrace_clock::Now;
use millrace_config::options::Resolver;
use millrace_core::{AccountId, Delivery};
use serde_json::{Value, json};

use super::HostTask;
use super::request::{Scope, Subject};
use crate::node::Node;

/// Subjects of the system account in operator mode.
pub(super) const SUBJECTS: [&[u8]; 3] = [
    b"$SYS.REQ.CLAIMS.*",
    b"$SYS.REQ.ACCOUNT.*.CLAIMS.*",
    b"$SYS.ACCOUNT.*.CLAIMS.UPDATE",
];

/// Tokens that must be stored before their change is in force.
#[derive(Clone, Debug)]
pub struct StoreTokens {
    /// The files' directory.
    pub directory: String,
    /// Accounts and tokens to be written.
    pub written: Vec<(String, String)>,
    /// Accounts whose files go.
    pub removed: Vec<String>,
    /// Removed files are gone; otherwise they are renamed.
    pub hard_delete: bool,
    request: ClaimsRequest,
    reply: Bytes,
}

/// What is asked for; it is judged again when the files are written, because the options may have
/// changed meanwhile.
#[derive(Clone, Debug)]
enum ClaimsRequest {
    /// The account that the subject names, and its token.
    Update(Option<String>, String),
    /// A token that names accounts.
    Delete(String),
}

impl Node {
    /// Answers a request about account tokens, or says what the host must do first.
    pub(super) fn claims(
        &mut self,
        now: Now,
        subject: &Subject<'_>,
        delivery: &Delivery,
    ) -> Option<HostTask> {
        let text = String::from_utf8_lossy(&delivery.payload).into_owned();
        let named = match subject.scope {
            Scope::Account(name) => Some(name),
            _ => None,
        };
        let request = match subject.what {
            "UPDATE" | "CLAIMS.UPDATE" => ClaimsRequest::Update(named.map(str::to_owned), text),
            "DELETE" => ClaimsRequest::Delete(text),
            "LIST" => {
                let keys: Vec<_> = self.options.operator.stored.keys().collect();
                let answer = json!({"server": Value::Null, "data": keys});
                self.answer_claims(now, &delivery.reply, answer);
                return None;
            }
            "CLAIMS.LOOKUP" => {
                let token = named.and_then(|name| self.token_of(name));
                let token = token.unwrap_or_default();
                self.send(now, &delivery.reply, token.as_bytes());
                return None;
            }
            "PACK" => {
                self.pack(now, &delivery.reply);
                return None;
            }
            _ => return None,
        };
        match self.judged(&request) {
            Ok(change) => self.storing(change, request, &delivery.reply),
            Err(reason) => {
                let account = named.unwrap_or_default().to_owned();
                self.refuse(now, &delivery.reply, subject.what, &account, &reason);
                None
            }
        }
    }

    fn judged(&self, request: &ClaimsRequest) -> Result<TokenChange, String> {
        let mode = self.broker.operator();
        let mode = mode.ok_or_else(|| "the server trusts no operator".to_owned())?;
        match request {
            ClaimsRequest::Update(named, text) => {
                update_account(mode, &self.options, named.as_deref(), text)
            }
            ClaimsRequest::Delete(text) => delete_accounts(mode, &self.options, text),
        }
    }

    fn storing(
        &self,
        change: TokenChange,
        request: ClaimsRequest,
        reply: &Bytes,
    ) -> Option<HostTask> {
        let Resolver::Full(resolver) = &self.options.operator.resolver else {
            return None;
        };
        Some(HostTask::Store(StoreTokens {
            directory: resolver.directory.clone(),
            written: change.written,
            removed: change.removed,
            hard_delete: resolver.hard_delete,
            request,
            reply: reply.clone(),
        }))
    }

    /// The host has stored tokens, or could not.
    pub fn tokens_stored(&mut self, now: Now, task: StoreTokens, result: Result<(), String>) {
        let written = task.written.first().map(|(key, _)| key.clone());
        let what = if written.is_some() {
            "UPDATE"
        } else {
            "DELETE"
        };
        let change = result.and_then(|()| self.judged(&task.request));
        let change = match change {
            Ok(change) => change,
            Err(reason) => {
                let account = written.unwrap_or_default();
                self.refuse(now, &task.reply, what, &account, &reason);
                return;
            }
        };
        let removed_count = change.removed.len();
        self.apply_tokens(now, change);
        let data = match written {
            Some(account) => json!({"account": account, "code": 200, "message": "jwt updated"}),
            None => {
                let message = format!("deleted {removed_count} accounts");
                json!({"code": 200, "message": message})
            }
        };
        self.answer_claims(
            now,
            &task.reply,
            json!({"server": Value::Null, "data": data}),
        );
    }

    fn token_of(&self, account: &str) -> Option<String> {
        let operator = &self.options.operator;
        let stored = operator.stored.get(account);
        stored.or_else(|| operator.preload.get(account)).cloned()
    }

    /// All tokens as `key|token`, one message each, and an empty one behind them.
    fn pack(&mut self, now: Now, reply: &[u8]) {
        let stored = self.options.operator.stored.clone();
        for (key, token) in stored {
            self.send(now, reply, format!("{key}|{token}").as_bytes());
        }
        self.send(now, reply, b"");
    }

    fn refuse(&mut self, now: Now, reply: &[u8], what: &str, account: &str, reason: &str) {
        let error = if what == "DELETE" {
            json!({"code": 500, "description": reason})
        } else {
            json!({
                "account": if account.is_empty() { "n/a" } else { account },
                "code": 500,
                "description": format!("jwt update resulted in error - {reason}"),
            })
        };
        let answer = json!({"server": Value::Null, "data": Value::Null, "error": error});
        self.answer_claims(now, reply, answer);
    }

    /// `server` is filled in here, so that its place is the first.
    fn answer_claims(&mut self, now: Now, reply: &[u8], mut answer: Value) {
        answer["server"] = self.server_value(now);
        self.publish_system(now, AccountId::SYSTEM, reply, &answer);
    }

    fn send(&mut self, now: Now, reply: &[u8], payload: &[u8]) {
        if !reply.is_empty() {
            self.broker
                .publish(now, AccountId::SYSTEM, reply, b"", b"", payload);
        }
    }
}
