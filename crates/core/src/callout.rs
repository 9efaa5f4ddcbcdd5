//! Clients that a service decides about (auth callout, spec core/11 §11.8): the question goes out as a
//! request in the service's account, and the client's input waits for the answer. What an answer is
//! worth is `millrace_auth`'s.

use data_encoding::BASE64;
use millrace_auth::{
    CALLOUT_SUBJECT, Callout, Question, QuestionSecrets, Rejection, SEAL_NONCE_BYTES,
};
use millrace_clock::Now;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::broker::Broker;
use crate::effects::LogLevel;
use crate::ids::{AccountId, ConnectionId};
use crate::limits::COMPATIBLE_VERSION;
use crate::login::facts_of;
use crate::publish::{Outcome, Outgoing, Source};
use crate::session::{Phase, Session};
use crate::subscription::{Owner, Subscription};

/// How reply subjects of questions begin; a part that says which question follows.
const REPLIES: &str = "$SYS._INBOX.";
/// Characters of the parts of a reply subject.
const REPLY_PART: usize = 8;
/// Longest answer that is looked at, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a client waits for that a service decides about.
#[derive(Debug)]
pub(crate) struct Asking {
    question: Question,
    /// The reply subject of the question.
    reply: Vec<u8>,
}

/// Questions of the whole server.
#[derive(Default)]
pub(crate) struct Callouts {
    /// The common beginning of all reply subjects; empty until there was a question.
    prefix: String,
    /// Accounts in which replies are listened for.
    accounts: Vec<AccountId>,
    /// Answers that have come and are still to be acted upon: reply subject and payload.
    answers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Who waits on which reply subject.
    waiting: std::collections::BTreeMap<Vec<u8>, ConnectionId>,
}

impl Broker {
    /// Asks a service who the client at `slot` is.
    pub(crate) fn ask_outside(&mut self, now: Now, slot: u32, callout: Callout) {
        let account = self.accounts.find_or_add(&callout.account);
        let reply = self.callout_reply(account);
        let secrets = self.question_secrets();
        let timeout_ns = self.options.authorization.timeout_ns;
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let about = self.about(session);
        let expires_ns = now.wall_ns.saturating_add_unsigned(timeout_ns);
        let expires_s = expires_ns.div_euclid(Now::SECOND_NS as i64);
        let keys = &self.identity.keys;
        let asked = Question::ask(callout, keys, secrets, about, expires_s);
        let Some((question, (headers, payload))) = asked else {
            self.reject(now, slot, &Rejection::default());
            return;
        };
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.phase = Phase::Hashing;
        let id = session.id;
        session.client.asking = Some(Box::new(Asking {
            question,
            reply: reply.clone(),
        }));
        self.callouts.waiting.insert(reply.clone(), id);
        self.set_login_timer(now, slot, timeout_ns);
        let subject = CALLOUT_SUBJECT.as_bytes();
        self.publish(now, account, subject, &reply, &headers, &payload);
    }

    /// A new reply subject; the first one in an account subscribes to them all.
    fn callout_reply(&mut self, account: AccountId) -> Vec<u8> {
        if self.callouts.prefix.is_empty() {
            let part = self.random.base62(REPLY_PART);
            self.callouts.prefix = format!("{REPLIES}{part}.");
        }
        if !self.callouts.accounts.contains(&account) {
            self.callouts.accounts.push(account);
            let filter = format!("{}*", self.callouts.prefix);
            let record = Subscription::new(Owner::Callouts, account, filter.as_bytes(), None, b"");
            self.add_subscription(record);
        }
        let part = self.random.base62(REPLY_PART);
        format!("{}{part}", self.callouts.prefix).into_bytes()
    }

    /// Secrets that nobody can guess who does not know the server's.
    fn question_secrets(&mut self) -> QuestionSecrets {
        self.nonces_made += 1;
        let digest = |purpose: &[u8]| -> [u8; 32] {
            let mut hasher = Sha256::new();
            hasher.update(self.identity.nonce_seed);
            hasher.update(self.nonces_made.to_be_bytes());
            hasher.update(purpose);
            hasher.finalize().into()
        };
        let mut nonce = [0; SEAL_NONCE_BYTES];
        for (place, byte) in nonce.iter_mut().zip(digest(b"seal")) {
            *place = byte;
        }
        QuestionSecrets {
            user_seed: digest(b"user"),
            nonce,
        }
    }

    /// An answer meets the subscription for replies; it is acted upon when the input that brought it
    /// is done.
    pub(crate) fn keep_answer(&mut self, outgoing: &mut Outgoing<'_>) -> Outcome {
        let message = outgoing.message;
        let is_awaited = self.callouts.waiting.contains_key(outgoing.destination);
        if !is_awaited || message.payload.len() > ANSWER_BYTES_MAX {
            return Outcome::Refused;
        }
        let answer = (outgoing.destination.to_vec(), message.payload.to_vec());
        self.callouts.answers.push(answer);
        outgoing.delivered.endpoints += 1;
        Outcome::Taken
    }

    /// Acts upon the answers that came.
    pub(crate) fn take_answers(&mut self, now: Now) {
        for (reply, answer) in std::mem::take(&mut self.callouts.answers) {
            let id = self.callouts.waiting.remove(&reply);
            if let Some(slot) = id.and_then(|id| self.slot_of(id)) {
                self.answered(now, slot, &reply, &answer);
            }
        }
    }

    fn answered(&mut self, now: Now, slot: u32, reply: &[u8], answer: &[u8]) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let is_it = |asking: &mut Box<Asking>| asking.reply == reply;
        let Some(asking) = session.client.asking.take_if(is_it) else {
            return;
        };
        session.phase = Phase::AwaitingConnect;
        let facts = facts_of(now, session);
        let operator = self.authenticator.operator();
        let keys = &self.identity.keys;
        let answered = asking.question.answered(keys, operator, answer, &facts);
        let answered =
            answered.and_then(
                |(identity, name)| match self.accounts.find(&identity.account) {
                    Some(_) => Ok((identity, name)),
                    None => Err(format!(
                        "no valid account {:?} for auth callout response",
                        identity.account
                    )),
                },
            );
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        match answered {
            Ok((identity, name)) => {
                if let Some(options) = session.client.options.as_deref_mut() {
                    options.jwt.clear();
                    if !name.is_empty() {
                        options.user = name;
                        options.nkey.clear();
                        options.auth_token.clear();
                    }
                }
                session.client.is_placed = true;
                self.admit(now, slot, &identity);
            }
            Err(reason) => {
                self.log_for(slot, LogLevel::Warning, &reason);
                self.reject(now, slot, &Rejection::default());
            }
        }
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        let waiting = std::mem::take(&mut session.partial);
        self.consume(now, slot, &waiting, Source::Borrowed);
    }

    /// The client no longer waits for an answer.
    pub(crate) fn forget_question(&mut self, slot: u32) {
        let session = self.sessions.get_mut(slot as usize);
        if let Some(asking) = session.and_then(|session| session.client.asking.take()) {
            self.callouts.waiting.remove(&asking.reply);
        }
    }

    /// What the service learns of the client and of this server.
    fn about(&self, session: &Session) -> Value {
        let identity = &self.identity;
        let mut server = json!({
            "name": identity.server_name,
            "host": self.client_place().0,
            "id": identity.server_id,
            "version": COMPATIBLE_VERSION,
        });
        if !identity.cluster.is_empty() {
            server["cluster"] = json!(identity.cluster);
        }
        if !self.options.server_tags.is_empty() {
            server["tags"] = json!(self.options.server_tags);
        }
        let host = session.facts.peer_ip.map(|ip| ip.to_string());
        let mut client = json!({
            "host": host.unwrap_or_default(),
            "id": session.id.0,
            "user": session.claimed_user(),
            "kind": "Client",
            "type": "nats",
        });
        let mut sent = json!({"protocol": session.client.protocol});
        if let Some(options) = session.client.options.as_deref() {
            for (name, text) in [
                ("jwt", &options.jwt),
                ("nkey", &options.nkey),
                ("sig", &options.sig),
                ("auth_token", &options.auth_token),
                ("user", &options.user),
                ("pass", &options.pass),
                ("name", &options.name),
                ("lang", &options.lang),
                ("version", &options.version),
            ] {
                if !text.is_empty() {
                    sent[name] = json!(text);
                }
            }
            if !options.name.is_empty() {
                client["name"] = json!(options.name);
            }
            if !options.sig.is_empty() {
                client["nonce"] = json!(String::from_utf8_lossy(&session.nonce));
            }
        }
        let mut about = json!({
            "server_id": server,
            "client_info": client,
            "connect_opts": sent,
        });
        if let Some(tls) = session.tls.as_deref() {
            let certificates: Vec<String> =
                tls.peer_certificates.iter().map(|der| pem(der)).collect();
            about["client_tls"] = json!({
                "version": tls.version,
                "cipher": tls.cipher_suite,
                "certs": certificates,
            });
        }
        about
    }
}

/// A certificate as text.
fn pem(der: &[u8]) -> String {
    const LINE: usize = 64;
    let encoded = BASE64.encode(der);
    let lines: Vec<&[u8]> = encoded.as_bytes().chunks(LINE).collect();
    let body = String::from_utf8_lossy(&lines.join(&b'\n')).into_owned();
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}
