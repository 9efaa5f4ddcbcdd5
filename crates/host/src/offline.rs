//! A store without a server: the node runs on a store folder as in a server, but with no port and one
//! client per account inside the process. For tools that work while the server is stopped; what they do
//! they ask for through the API, with its checks.

use crate::clock::Clock;
use crate::disk::DiskLanes;
use crate::event_loop::{Input, Waiting};
use crate::identity;
use crate::machine;
use crate::store_folder::StoreFolder;
use crate::store_keys;
use bytes::Bytes;
use millrace_auth::ServerKeys;
use millrace_config::Options;
use millrace_config::options::JetStreamOptions;
use millrace_core::{
    BrokerSettings, ConnectionFacts, ConnectionId, ConnectionKind, ServerIdentity,
};
use millrace_node::{JetStreamHostSettings, LogSeverity, Node, NodeSettings};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest sleep between two turns.
const NAP: Duration = Duration::from_millis(20);
/// A stopped store has no clients whose payloads were too large: what is stored must go through.
const MAX_PAYLOAD: u32 = 64 << 20;
/// The account of those who have none.
const GLOBAL: &str = "$G";

/// Whether the store may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Write,
    /// Files of the store stay as they are; what opening it writes goes to a scratch folder beside it.
    Read,
}

/// A message that reached the client of an account.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub subject: String,
    /// Empty: none.
    pub reply: String,
    /// The header block with its status line; empty: none.
    pub headers: Bytes,
    pub payload: Bytes,
}

/// A line that a server would have logged.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// It tells of something that is wrong.
    pub is_alarm: bool,
    pub text: String,
}

struct Client {
    account: String,
    id: ConnectionId,
    unparsed: Vec<u8>,
    received: VecDeque<Reply>,
}

/// An opened store.
pub struct Offline {
    node: Node,
    disk: DiskLanes,
    waiting: Waiting,
    clock: Clock,
    clients: Vec<Client>,
    log: Vec<LogLine>,
    /// Holds the lock.
    store: StoreFolder,
    requests: u64,
}

impl Offline {
    /// Opens the store of `store_dir` with these accounts and keys, and waits until it is read.
    ///
    /// # Errors
    /// A text for the user.
    pub fn open(
        store_dir: &Path,
        accounts: &[String],
        access: Access,
        keys: &JetStreamOptions,
    ) -> Result<Self, String> {
        let store = match access {
            Access::Write => StoreFolder::open_beside_others(store_dir),
            Access::Read => StoreFolder::open_existing(store_dir),
        };
        let store = store.map_err(|error| error.to_string())?;
        let (sealed_with, _) = store_keys::open(&store.path, keys, access == Access::Write)?;
        let clock = Clock::start();
        let waiting =
            Waiting::new().map_err(|error| format!("no poll from the system: {error}"))?;
        let disk = match access {
            Access::Write => DiskLanes::start(&store.path, &waiting.inputs),
            Access::Read => DiskLanes::start_reading(&store.path, &waiting.inputs),
        };
        let disk = disk.map_err(|error| format!("no disk threads: {error}"))?;
        let options = options_for(accounts)?;
        let keys = ServerKeys::new(identity::entropy()?, identity::entropy()?);
        let identity = ServerIdentity {
            server_id: keys.server_id(),
            server_name: keys.server_id(),
            nonce_seed: identity::entropy()?,
            jetstream: true,
            keys,
            ..ServerIdentity::default()
        };
        let settings = NodeSettings {
            broker: BrokerSettings {
                options: Arc::new(options),
                identity,
                random_seed: u64::from_le_bytes(identity::entropy()?),
            },
            jetstream: Some(JetStreamHostSettings {
                store_dir: store.path.display().to_string(),
                max_memory_bytes: u64::MAX >> 1,
                max_file_bytes: u64::MAX >> 1,
                local_time_zone: machine::time_zone_name(),
                keys: sealed_with,
            }),
            wake: None,
        };
        let mut offline = Self {
            node: Node::new(clock.now(), settings),
            disk,
            waiting,
            clock,
            clients: Vec::new(),
            log: Vec::new(),
            store,
            requests: 0,
        };
        offline.wait("the store to be read", |this| {
            this.node.is_ready().then_some(())
        })?;
        if !offline.node.serves_streams() {
            // Why stands in the log of the turn that follows.
            offline.turn();
            let alarms = offline.log.iter().filter(|line| line.is_alarm);
            let alarms: Vec<&str> = alarms.map(|line| line.text.as_str()).collect();
            return Err(format!("the store cannot be read: {}", alarms.join("; ")));
        }
        for (number, account) in accounts.iter().enumerate() {
            offline.connect(account, number);
        }
        Ok(offline)
    }

    /// The folder that is open.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// Accounts that have streams here, whether they were named or not.
    #[must_use]
    pub fn stored_accounts(&self) -> Vec<String> {
        self.node.stored_accounts()
    }

    /// What was logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }

    /// Subscribes the account's client.
    ///
    /// # Errors
    /// The account was not named when the store was opened.
    pub fn subscribe(&mut self, account: &str, subject: &str) -> Result<(), String> {
        self.requests += 1;
        let line = format!("SUB {subject} {}\r\n", self.requests);
        self.send(account, line.as_bytes())
    }

    /// Publishes as the account's client.
    ///
    /// # Errors
    /// The account was not named when the store was opened.
    pub fn publish(
        &mut self,
        account: &str,
        subject: &str,
        reply: &str,
        payload: &[u8],
    ) -> Result<(), String> {
        let mut line = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        line.extend_from_slice(payload);
        line.extend_from_slice(b"\r\n");
        self.send(account, &line)
    }

    /// The next message on `subject`.
    ///
    /// # Errors
    /// None comes.
    pub fn receive(&mut self, account: &str, subject: &str) -> Result<Reply, String> {
        self.wait("an answer", |this| {
            let client = this.clients.iter_mut().find(|one| one.account == account)?;
            let at = client
                .received
                .iter()
                .position(|reply| reply.subject == subject)?;
            client.received.remove(at)
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn request(
        &mut self,
        account: &str,
        subject: &str,
        payload: &[u8],
    ) -> Result<Bytes, String> {
        self.requests += 1;
        let inbox = format!("_INBOX.{}", self.requests);
        let subscription = self.requests;
        self.subscribe(account, &inbox)?;
        self.publish(account, subject, &inbox, payload)?;
        let reply = self.receive(account, &inbox)?;
        self.send(
            account,
            format!("UNSUB {}\r\n", subscription + 1).as_bytes(),
        )?;
        if reply.headers.starts_with(b"NATS/1.0 503") {
            return Err(format!("nobody answers on {subject}"));
        }
        Ok(reply.payload)
    }

    fn connect(&mut self, account: &str, number: usize) {
        let facts = ConnectionFacts {
            peer_ip: None,
            peer_port: 1,
            kind: ConnectionKind::Client,
            tls: false,
            websocket: None,
        };
        let now = self.clock.now();
        let id = self.node.broker().accept(now, facts);
        let connect = format!(
            r#"CONNECT {{"verbose":false,"headers":true,"no_responders":true,"user":"{number}","pass":"{number}"}}"#
        );
        let line = format!("{connect}\r\n");
        self.node.broker().receive(now, id, line.as_bytes());
        self.clients.push(Client {
            account: account.to_owned(),
            id,
            unparsed: Vec::new(),
            received: VecDeque::new(),
        });
    }

    fn send(&mut self, account: &str, bytes: &[u8]) -> Result<(), String> {
        let client = self.clients.iter().find(|one| one.account == account);
        let client = client.ok_or_else(|| format!("account {account} is not open"))?;
        let now = self.clock.now();
        self.node.broker().receive(now, client.id, bytes);
        Ok(())
    }

    /// Takes turns until `look` finds something.
    fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, String> {
        let mut until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if self.turn() {
                until = Instant::now() + PATIENCE;
            }
            if Instant::now() > until {
                return Err(format!("gave up waiting for {what}"));
            }
        }
    }

    /// One turn; true if the disk or the node did something.
    fn turn(&mut self) -> bool {
        let now = self.clock.now();
        self.node.tick(now);
        self.node.end_of_turn(now);
        let mut requests = Vec::new();
        self.node.take_disk_requests(&mut requests);
        let mut busy = !requests.is_empty();
        for request in requests {
            self.disk.submit(request);
        }
        self.take_node_log();
        self.take_replies();
        let sleep = match self.node.next_deadline() {
            Some(due_ns) => Duration::from_nanos(due_ns.saturating_sub(now.monotonic_ns)).min(NAP),
            None => NAP,
        };
        let mut input = self.waiting.receive_within(sleep);
        while let Some(one) = input {
            if let Input::Disk(completion) = one {
                busy = true;
                self.node.handle_disk(self.clock.now(), completion);
            }
            input = self.waiting.receive_within(Duration::ZERO);
        }
        busy
    }

    fn take_node_log(&mut self) {
        let mut lines = Vec::new();
        self.node.take_log(&mut lines);
        self.log.extend(lines.into_iter().map(|line| LogLine {
            is_alarm: matches!(line.severity, LogSeverity::Error | LogSeverity::Warning),
            text: line.text,
        }));
    }

    fn take_replies(&mut self) {
        for client in &mut self.clients {
            let outbound = self.node.broker().outbound(client.id);
            outbound.take_into(&mut client.unparsed);
            while let Some(reply) = next_reply(&mut client.unparsed) {
                client.received.push_back(reply);
            }
        }
    }
}

/// Options of a server that has these accounts and nothing else.
fn options_for(accounts: &[String]) -> Result<Options, String> {
    let mut text = "jetstream: enabled\naccounts {\n".to_owned();
    for (number, account) in accounts.iter().enumerate() {
        // The global account cannot be configured by its name: it gets it below.
        let name = match account.as_str() {
            GLOBAL => format!("\"global {number}\""),
            _ => quoted(account)?,
        };
        text.push_str(&format!(
            "{name} {{ jetstream: enabled, users: [{{user: \"{number}\", password: \"{number}\"}}] }}\n"
        ));
    }
    text.push_str("}\n");
    let none = |_: &str| -> Option<String> { None };
    let missing = |path: &str| -> Result<String, String> { Err(format!("open {path}")) };
    let (mut options, _) = millrace_config::parse(&text, "offline", &missing, &none)
        .map_err(|errors| format!("accounts {accounts:?}: {errors}"))?;
    for (configured, account) in options.accounts.iter_mut().zip(accounts) {
        configured.name.clone_from(account);
    }
    options.client.max_payload = MAX_PAYLOAD as usize;
    options.client.max_pending = 4 * u64::from(MAX_PAYLOAD);
    Ok(options)
}

/// An account's name as the configuration language takes it.
fn quoted(name: &str) -> Result<String, String> {
    if name.contains(['"', '\\', '\n', '\r']) {
        return Err(format!(
            "account {name:?} has a name that cannot be configured"
        ));
    }
    Ok(format!("\"{name}\""))
}

/// Takes the next message from what a client was sent; other operations are passed over.
fn next_reply(unparsed: &mut Vec<u8>) -> Option<Reply> {
    loop {
        let end = unparsed.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8_lossy(unparsed.get(..end)?).into_owned();
        let mut words: Vec<&str> = line.split(' ').collect();
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).unwrap_or(0usize);
        let (head, total) = match words.first() {
            Some(&"MSG") => (0, number(words.pop())),
            Some(&"HMSG") => {
                let total = number(words.pop());
                (number(words.pop()), total)
            }
            _ => {
                unparsed.drain(..end + 2);
                continue;
            }
        };
        let start = end + 2;
        if unparsed.len() < start + total + 2 {
            return None;
        }
        let headers = unparsed.get(start..start + head).unwrap_or_default();
        let payload = unparsed
            .get(start + head..start + total)
            .unwrap_or_default();
        let reply = Reply {
            subject: words.get(1).copied().unwrap_or_default().to_owned(),
            reply: words.get(3).copied().unwrap_or_default().to_owned(),
            headers: Bytes::copy_from_slice(headers),
            payload: Bytes::copy_from_slice(payload),
        };
        unparsed.drain(..start + total + 2);
        return Some(reply);
    }
}
