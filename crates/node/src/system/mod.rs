//! The system account: requests about the server and events of its clients (spec core/13).
//!
//! Requests wait in a queue until the host asks for the answers, because some of what they show
//! only the host knows. What a request shows is the monitoring's; here is only who may ask what.

mod claims;
mod encoding;
mod events;
mod facts;
mod heartbeat;
mod request;
mod subscribers;

use std::collections::VecDeque;

use bytes::Bytes;
use millrace_clock::{Now, Random};
use millrace_core::{AccountId, CloseReason, ConnectionId, Delivery, EndpointId};
use serde_json::{Value, json};

use crate::monitor::{HostFacts, Query};
use crate::node::Node;
pub use claims::StoreTokens;
use encoding::Encoding;
pub(crate) use events::account_statistics;
use request::{Refusal, Scope, Subject};

/// The receiver of system requests in the broker's table.
const ENDPOINT: EndpointId = EndpointId(u64::MAX);
/// Requests that may wait for their answers; what is beyond is dropped, as a slow server would.
const WAITING_MAX: usize = 1024;
/// Subjects that the system account may ask on.
const SYSTEM_SUBJECTS: [&[u8]; 5] = [
    b"$SYS.DEBUG.SUBSCRIBERS",
    b"$SYS.REQ.SERVER.PING",
    b"$SYS.REQ.SERVER.*.*",
    b"$SYS.REQ.ACCOUNT.*.*",
    b"$SYS.REQ.USER.INFO",
];
/// Subjects that every account may ask on, about itself.
const ACCOUNT_SUBJECTS: [&[u8]; 4] = [
    b"$SYS.REQ.ACCOUNT.PING.CONNZ",
    b"$SYS.REQ.ACCOUNT.PING.STATZ",
    b"$SYS.REQ.SERVER.PING.CONNZ",
    b"$SYS.REQ.USER.INFO",
];

/// What the system account's services keep between calls.
pub(crate) struct System {
    waiting: VecDeque<Delivery>,
    /// Counts what this server says of itself.
    sequence: u64,
    random: Random,
    events: Vec<millrace_core::SessionEvent>,
    /// Monotonic time at which accounts tell again how many connections they have.
    pub(crate) connections_due_ns: Option<u64>,
    /// Monotonic time at which the server tells its figures.
    pub(crate) statistics_due_ns: Option<u64>,
    /// When it last did.
    statistics_told_ns: Option<u64>,
}

/// A request to read the configuration again.
#[derive(Clone, Debug)]
pub struct ReloadRequest {
    reply: Bytes,
}

/// Something that a system request asks of the host.
#[derive(Clone, Debug)]
pub enum HostTask {
    /// Read the configuration again, then call [`Node::reloaded`].
    Reload(ReloadRequest),
    /// Store account tokens, then call [`Node::tokens_stored`].
    Store(StoreTokens),
}

impl System {
    pub(crate) fn new(random: Random) -> Self {
        Self {
            waiting: VecDeque::new(),
            sequence: 0,
            random,
            events: Vec::new(),
            connections_due_ns: None,
            statistics_due_ns: None,
            statistics_told_ns: None,
        }
    }
}

impl Node {
    /// Lets the accounts ask; called at start and when accounts may have been added.
    pub(crate) fn bind_system(&mut self) {
        for account in self.broker.accounts() {
            let subjects = if account.id == AccountId::SYSTEM {
                &SYSTEM_SUBJECTS[..]
            } else {
                &ACCOUNT_SUBJECTS[..]
            };
            for subject in subjects {
                self.broker.bind(account.id, subject, ENDPOINT);
            }
            if account.id == AccountId::SYSTEM && self.options.operator.is_on() {
                for subject in claims::SUBJECTS {
                    self.broker.bind(account.id, subject, ENDPOINT);
                }
            }
        }
    }

    /// Takes the system requests out of what reached receivers inside the server.
    pub(crate) fn take_system_requests(&mut self, deliveries: &mut Vec<Delivery>) {
        if !deliveries.iter().any(|one| one.endpoint == ENDPOINT) {
            return;
        }
        let system = &mut self.system;
        deliveries.retain_mut(|delivery| {
            if delivery.endpoint != ENDPOINT {
                return true;
            }
            if system.waiting.len() < WAITING_MAX {
                system.waiting.push_back(delivery.clone());
            }
            false
        });
    }

    /// Whether [`Self::next_system_task`] has something to do.
    #[must_use]
    pub fn has_system_requests(&self, now: Now) -> bool {
        !self.system.waiting.is_empty() || self.are_statistics_due(now)
    }

    /// How many requests wait.
    pub(crate) fn system_requests(&self) -> usize {
        self.system.waiting.len()
    }

    /// Answers what was asked on system subjects, up to a request that the host must help with.
    /// `None`: nothing waits any more.
    pub fn next_system_task(&mut self, now: Now, facts: &HostFacts) -> Option<HostTask> {
        if self.are_statistics_due(now) {
            self.publish_statistics(now, facts);
        }
        while let Some(delivery) = self.system.waiting.pop_front() {
            let Some(subject) = Subject::read(&delivery.subject) else {
                continue;
            };
            if subject.scope == Scope::Subscribers {
                self.count_subscribers(now, &delivery);
            } else if subject.is_about_claims() {
                if let Some(task) = self.claims(now, &subject, &delivery) {
                    return Some(task);
                }
            } else if subject.is_reload() {
                if self.is_about_us(&subject) {
                    let reply = delivery.reply;
                    return Some(HostTask::Reload(ReloadRequest { reply }));
                }
            } else if let Some(answer) = self.answer(now, facts, &subject, &delivery) {
                self.reply(now, &delivery, &answer);
            }
        }
        None
    }

    /// Tells who asked for a reload how it went.
    pub fn reloaded(&mut self, now: Now, request: &ReloadRequest, result: Result<(), String>) {
        let answer = self.outcome(now, result);
        self.publish_system(now, AccountId::SYSTEM, &request.reply, &answer);
    }

    fn publish_system(&mut self, now: Now, account: AccountId, subject: &[u8], value: &Value) {
        if subject.is_empty() {
            return;
        }
        let payload = serde_json::to_vec(value).unwrap_or_default();
        self.broker
            .publish(now, account, subject, b"", b"", &payload);
    }

    /// Answers a request, compressed if it asks for that and there is something to compress.
    fn reply(&mut self, now: Now, request: &Delivery, answer: &Value) {
        let encoding = Encoding::wanted(&request.headers).filter(|_| answer.get("data").is_some());
        let Some(encoding) = encoding else {
            return self.publish_system(now, request.account, &request.reply, answer);
        };
        if request.reply.is_empty() {
            return;
        }
        let payload = encoding.encode(serde_json::to_vec(answer).unwrap_or_default());
        let headers = encoding.headers();
        let (account, reply) = (request.account, &request.reply);
        self.broker
            .publish(now, account, reply, b"", headers, &payload);
    }

    fn is_about_us(&self, subject: &Subject<'_>) -> bool {
        match subject.scope {
            Scope::Server(id) => id == self.broker.identity().server_id,
            Scope::AllServers => !subject.is_one_server_only(),
            Scope::Account(_) | Scope::User | Scope::Claims | Scope::Subscribers => true,
        }
    }

    /// The answer, or `None` for silence: another server is meant, or nothing is known by the name.
    fn answer(
        &mut self,
        now: Now,
        facts: &HostFacts,
        subject: &Subject<'_>,
        delivery: &Delivery,
    ) -> Option<Value> {
        if !self.is_about_us(subject) {
            return None;
        }
        let options = match request::options(&delivery.payload) {
            Ok(options) => options,
            Err(description) => {
                let error = json!({"code": 400, "description": description});
                return Some(json!({"server": self.server_value(now), "error": error}));
            }
        };
        if !self.is_chosen_by(&options) {
            return None;
        }
        let own = (delivery.account != AccountId::SYSTEM)
            .then(|| self.broker.account_name(delivery.account).to_owned());
        let data = match (subject.scope, subject.what) {
            (Scope::Claims | Scope::Subscribers, _) => return None,
            (Scope::User, _) => self.user_info(delivery.publisher?),
            (Scope::AllServers | Scope::Server(_), "IDZ") => return Some(self.identity_value()),
            (Scope::AllServers | Scope::Server(_), "STATSZ") => {
                let statistics = self.statistics(now, facts);
                return Some(json!({"server": self.server_value(now), "statsz": statistics}));
            }
            (Scope::Server(_), "KICK") => return Some(self.kick(now, &options)),
            (Scope::Server(_), "LDM") => return Some(self.warn(now, &options)),
            (Scope::Server(_) | Scope::AllServers, what) => {
                let query = Query::from_json(&options, own.as_deref());
                self.about_server(now, facts, what, &query)?
            }
            (Scope::Account(name), what) => {
                let only = own.as_deref().or_else(|| (name != "PING").then_some(name));
                return self.about_account(now, only, what, &options);
            }
        };
        Some(self.envelope(now, data))
    }

    fn envelope(&mut self, now: Now, data: Result<Value, Refusal>) -> Value {
        let server = self.server_value(now);
        match data {
            Ok(data) => json!({"server": server, "data": data}),
            Err(Refusal(description)) => json!({
                "server": server,
                "data": null,
                "error": {"code": 500, "description": description},
            }),
        }
    }

    fn about_server(
        &mut self,
        now: Now,
        facts: &HostFacts,
        what: &str,
        query: &Query,
    ) -> Option<Result<Value, Refusal>> {
        let path = match what {
            "VARZ" => "/varz",
            "CONNZ" => "/connz",
            "SUBSZ" => "/subsz",
            "JSZ" => "/jsz",
            "HEALTHZ" => "/healthz",
            "ROUTEZ" => "/routez",
            "GATEWAYZ" => "/gatewayz",
            "LEAFZ" => "/leafz",
            "ACCOUNTZ" => "/accountz",
            "IPQUEUESZ" => "/ipqueuesz",
            "EXPVARZ" => "/debug/vars",
            // Over HTTP that there are none is an error, here it is an empty answer.
            "RAFTZ" => return Some(Ok(json!({}))),
            "PROFILEZ" => return Some(Ok(profile_value(query))),
            _ => return None,
        };
        Some(request::shown(what, &self.show(now, facts, path, query)?))
    }

    /// `only`: the account that is asked about; `None` means all.
    fn about_account(
        &mut self,
        now: Now,
        only: Option<&str>,
        what: &str,
        options: &Value,
    ) -> Option<Value> {
        let path = match what {
            "CONNZ" => "/connz",
            "SUBSZ" => "/subsz",
            "LEAFZ" => "/leafz",
            "JSZ" => "/jsz",
            "INFO" => "/accountz",
            "STATZ" => "/accstatz",
            "CONNS" => return self.connections_event(now, only?),
            _ => return None,
        };
        if what == "JSZ" && self.engine.is_none() {
            return Some(self.envelope(now, Err(Refusal("jetstream not enabled".to_owned()))));
        }
        let mut query = Query::from_json(options, only);
        if what == "SUBSZ" {
            query.set("subs", "1");
        }
        let answer = self.show(now, &HostFacts::default(), path, &query)?;
        let mut data = request::shown(what, &answer);
        if what == "INFO" {
            data = data.map(|mut value| value["account_detail"].take());
        }
        Some(self.envelope(now, data))
    }

    fn kick(&mut self, now: Now, options: &Value) -> Value {
        let id = ConnectionId(options["cid"].as_u64().unwrap_or(0));
        let kicked = self.broker.kick(now, id, CloseReason::Kicked);
        let missing = "no such client or leafnode id".to_owned();
        self.outcome(now, kicked.then_some(()).ok_or(missing))
    }

    /// Tells one client that the server is about to leave, so that it looks for another.
    fn warn(&mut self, now: Now, options: &Value) -> Value {
        let id = ConnectionId(options["cid"].as_u64().unwrap_or(0));
        let told = self.broker.tell_lame_duck(id);
        let missing = "no such client id".to_owned();
        self.outcome(now, told.then_some(()).ok_or(missing))
    }

    /// The answer to what is done or not, without data.
    fn outcome(&mut self, now: Now, result: Result<(), String>) -> Value {
        let mut answer = json!({"server": self.server_value(now)});
        if let Err(description) = result {
            answer["error"] = json!({"code": 500, "description": description});
        }
        answer
    }

    fn user_info(&self, publisher: ConnectionId) -> Result<Value, Refusal> {
        let connection = self
            .broker
            .connection(publisher)
            .ok_or_else(|| Refusal("the client is gone".to_owned()))?;
        Ok(json!({
            "user": connection.authorized_user,
            "account": connection.account_name,
            "account_name": connection.account_name,
        }))
    }
}

/// There are no profiles to be had; the words are the reference's for a name that it does not know.
fn profile_value(query: &Query) -> Value {
    let error = match query.text("name") {
        None => "Profile name not specified".to_owned(),
        Some(name) => format!("Profile {name:?} not found"),
    };
    json!({"profile": null, "error": error})
}
