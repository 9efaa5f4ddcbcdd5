//! What the dashboard may do: publish a message, and look at one that is stored. Each is done by a
//! client connection of its own inside the process, with the credentials that were typed in, so that
//! login and permissions are the broker's checks and no others.
//!
//! Other sites cannot make a browser do it: the request is JSON with a header of our own, for which
//! browsers ask first, and nobody answers them; and its origin must be this port.

use super::Service;
use crate::event_loop::Input;
use crate::limits::{ACTION_BODY_BYTES, ACTION_WAIT_MS};
use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::{Method, Request};
use millrace_node::MonitorAnswer;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest line and largest payload that are taken from the server.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Where answers come in.
const INBOX: &str = "_INBOX.dashboard";

/// What the page sends.
#[derive(Deserialize)]
struct Wanted {
    action: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    payload: String,
    /// Wait for an answer to what is published.
    #[serde(default)]
    request: bool,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    sequence: u64,
    #[serde(default)]
    last: String,
}

/// Carries out what the page asks for.
pub(super) async fn act(
    request: Request<Incoming>,
    service: &Service,
    peer: SocketAddr,
) -> MonitorAnswer {
    if !is_from_the_page(request.method(), request.headers()) {
        return super::text(403, "this is for the dashboard\n");
    }
    let body = Limited::new(request.into_body(), ACTION_BODY_BYTES);
    let Ok(body) = body.collect().await else {
        return super::text(413, "too much\n");
    };
    let wanted: Wanted = match serde_json::from_slice(&body.to_bytes()) {
        Ok(wanted) => wanted,
        Err(error) => return super::text(400, &format!("{error}\n")),
    };
    let limit = Duration::from_millis(ACTION_WAIT_MS);
    let done = tokio::time::timeout(limit, carry_out(&wanted, service, peer)).await;
    let value = match done.unwrap_or_else(|_| Err("there was no answer in time".to_owned())) {
        Ok(text) => json!({"ok": text}),
        Err(text) => json!({"error": text}),
    };
    MonitorAnswer {
        status: 200,
        content_type: "application/json",
        body: value.to_string().into_bytes(),
    }
}

fn is_from_the_page(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("application/json"));
    let is_ours = headers.contains_key("millrace-action");
    // Behind a proxy the host that the browser knows may not be the one that is named here; then the
    // browser itself says whether the page is the site's own.
    let site = headers
        .get("sec-fetch-site")
        .and_then(|value| value.to_str().ok());
    let same_origin = match (site, text(ORIGIN), text(HOST)) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, rest)| rest == host),
        (None, None, _) => true,
        (None, Some(_), None) => false,
    };
    *method == Method::POST && is_json && is_ours && same_origin
}

async fn carry_out(wanted: &Wanted, service: &Service, peer: SocketAddr) -> Result<String, String> {
    match wanted.action.as_str() {
        "publish" => {
            let mut session = Session::log_in(wanted, service, peer).await?;
            let subject = token(&wanted.subject, "subject")?;
            let payload = wanted.payload.as_bytes();
            if !wanted.request {
                session.publish(subject, "", payload).await?;
                return Ok(format!("published {} bytes to {subject}", payload.len()));
            }
            let answer = session.request(subject, payload).await?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        }
        "peek" => {
            let stream = token(&wanted.stream, "stream")?;
            let body = if wanted.last.is_empty() {
                json!({"seq": wanted.sequence.max(1)})
            } else {
                json!({"last_by_subj": wanted.last})
            };
            let mut session = Session::log_in(wanted, service, peer).await?;
            let subject = format!("$JS.API.STREAM.MSG.GET.{stream}");
            let answer = session
                .request(&subject, body.to_string().as_bytes())
                .await?;
            shown_message(&answer)
        }
        other => Err(format!("{other:?} is not known")),
    }
}

/// A name that becomes part of a protocol line.
fn token<'a>(text: &'a str, what: &str) -> Result<&'a str, String> {
    let is_bad = |character: char| character.is_whitespace() || character.is_control();
    if text.is_empty() || text.contains(is_bad) {
        return Err(format!("the {what} must be one word"));
    }
    Ok(text)
}

/// A stored message for people.
fn shown_message(answer: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    if let Some(text) = answer["error"]["description"].as_str() {
        return Err(text.to_owned());
    }
    let message = &answer["message"];
    let decoded = |name: &str| {
        let text = message[name].as_str().unwrap_or_default();
        let bytes = BASE64.decode(text.as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let headers = decoded("hdrs");
    let headers = headers
        .split_once("\r\n")
        .map_or("", |(_, rest)| rest)
        .trim();
    let gap = if headers.is_empty() { "" } else { "\n" };
    Ok(format!(
        "{} #{} at {}\n{headers}{gap}\n{}",
        message["subject"].as_str().unwrap_or_default(),
        message["seq"],
        message["time"].as_str().unwrap_or_default(),
        decoded("data"),
    ))
}

/// A client of this server, inside the process.
struct Session {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Session {
    async fn log_in(wanted: &Wanted, service: &Service, peer: SocketAddr) -> Result<Self, String> {
        let (ours, theirs) = socket_pair().await.map_err(|error| error.to_string())?;
        service.inputs.send(Input::LocalClient {
            socket: theirs,
            peer,
        });
        let mut session = Self {
            socket: ours,
            read: Vec::new(),
        };
        let info = session.line().await?;
        if !info.starts_with("INFO ") {
            return Err(info);
        }
        let mut options = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
            "protocol": 1, "name": "dashboard", "lang": "dashboard",
            "version": millrace_core::MILLRACE_VERSION,
        });
        for (name, text) in [
            ("user", &wanted.user),
            ("pass", &wanted.password),
            ("auth_token", &wanted.token),
        ] {
            if !text.is_empty() {
                options[name] = json!(text);
            }
        }
        session
            .send(format!("CONNECT {options}\r\n").as_bytes())
            .await?;
        session.settle().await?;
        Ok(session)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.socket.write_all(bytes).await;
        sent.map_err(|_| "the server closed the connection".to_owned())
    }

    /// Waits until all that was sent is done; an error of the server ends it.
    async fn settle(&mut self) -> Result<(), String> {
        self.send(b"PING\r\n").await?;
        loop {
            let line = self.line().await?;
            if line == "PONG" {
                return Ok(());
            }
            refusal(&line)?;
        }
    }

    async fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) -> Result<(), String> {
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes).await?;
        if reply.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    async fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Vec<u8>, String> {
        self.send(format!("SUB {INBOX} 1\r\n").as_bytes()).await?;
        self.settle().await?;
        self.publish(subject, INBOX, payload).await?;
        loop {
            let line = self.line().await?;
            refusal(&line)?;
            let mut fields = line.split_ascii_whitespace();
            let head = fields.next().unwrap_or_default();
            let sizes: Vec<usize> = fields.filter_map(|field| field.parse().ok()).collect();
            // The sid is a number too, and comes first.
            let (header_bytes, all) = match (head, sizes.as_slice()) {
                ("MSG", [.., all]) => (0, *all),
                ("HMSG", [.., header, all]) => (*header, *all),
                _ => continue,
            };
            let content = self.content(all).await?;
            let (headers, payload) = content.split_at(header_bytes.min(content.len()));
            if headers.starts_with(b"NATS/1.0 503") {
                return Err(format!("nobody answers on {subject}"));
            }
            return Ok(payload.to_vec());
        }
    }

    async fn more(&mut self) -> Result<(), String> {
        if self.read.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too large to be shown".to_owned());
        }
        match self.socket.read_buf(&mut self.read).await {
            Ok(count) if count > 0 => Ok(()),
            _ => Err("the server closed the connection".to_owned()),
        }
    }

    /// The next line without its end.
    async fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more().await?;
        }
    }

    async fn content(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.read.len() < count.saturating_add(2) {
            self.more().await?;
        }
        let content = self.read.drain(..count).collect();
        self.read.drain(..2);
        Ok(content)
    }
}

/// What the server refuses, in its words.
fn refusal(line: &str) -> Result<(), String> {
    match line.strip_prefix("-ERR ") {
        Some(text) => Err(text.trim_matches('\'').to_owned()),
        None => Ok(()),
    }
}

/// Two ends of one connection that nobody else can have.
async fn socket_pair() -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    loop {
        let (theirs, from) = listener.accept().await?;
        // Somebody else on this machine may have been quicker.
        if from == ours.local_addr()? {
            return Ok((ours, theirs.into_std()?));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| {
                let name = hyper::header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn other_sites_cannot_send_an_action() {
        let json = ("content-type", "application/json");
        let ours = ("millrace-action", "1");
        let host = ("host", "example:8222");
        for (fields, expected) in [
            (&[json, ours, host][..], true),
            (&[json, ours, host, ("origin", "http://example:8222")], true),
            (&[json, ours, host, ("origin", "http://evil")], false),
            (&[json, ours, ("origin", "http://evil")], false),
            (&[json, ours, host, ("sec-fetch-site", "cross-site")], false),
            (&[json, ours, host, ("sec-fetch-site", "same-site")], false),
            (&[json, ours, host, ("sec-fetch-site", "same-origin")], true),
            (&[json, host], false),
            (&[("content-type", "text/plain"), ours, host], false),
        ] {
            assert_eq!(
                is_from_the_page(&Method::POST, &headers(fields)),
                expected,
                "{fields:?}"
            );
        }
        assert!(!is_from_the_page(
            &Method::GET,
            &headers(&[json, ours, host])
        ));
    }

    #[test]
    fn names_cannot_carry_other_operations() {
        assert_eq!(token("a.b", "subject"), Ok("a.b"));
        for text in ["", "a b", "a\r\nPUB x 0", "a\tb", "a\0"] {
            assert!(token(text, "subject").is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_stored_message_is_shown_with_its_headers() {
        let answer = br#"{"message":{"subject":"s.1","seq":7,"time":"T","hdrs":"TkFUUy8xLjANCkE6IGINCg0K","data":"aGk="}}"#;
        assert_eq!(shown_message(answer).unwrap(), "s.1 #7 at T\nA: b\n\nhi");
        let refused = br#"{"error":{"description":"no message found"}}"#;
        assert_eq!(shown_message(refused), Err("no message found".to_owned()));
    }
}
