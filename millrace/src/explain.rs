//! `millrace explain URL STREAM CONSUMER`: asks a running server why a consumer is not delivering, and
//! prints what it says. A client of its own of a few lines: one question needs no more.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
const DEFAULT_PORT: u16 = 4222;
/// Longest answer, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const INBOX: &str = "_INBOX.millrace.explain";

/// The words behind `explain`.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let [url, stream, consumer] = words else {
        return Err(
            "usage: explain <nats://[user:password@]host[:port]> <stream> <consumer>".into(),
        );
    };
    let answer = ask(url, stream, consumer)?;
    print!("{}", text(&answer)?);
    Ok(())
}

/// Where a server is, and as whom to log in.
struct Target<'a> {
    user: Option<(&'a str, &'a str)>,
    address: String,
}

fn target(url: &str) -> Target<'_> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    let (login, host) = rest
        .rsplit_once('@')
        .map_or((None, rest), |(login, host)| (Some(login), host));
    let bare = host
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.contains(']'));
    Target {
        user: login.map(|login| login.split_once(':').unwrap_or((login, ""))),
        address: if bare {
            format!("{host}:{DEFAULT_PORT}")
        } else {
            host.to_owned()
        },
    }
}

fn ask(url: &str, stream: &str, consumer: &str) -> Result<Value, String> {
    let target = target(url);
    let failed = |error: std::io::Error| format!("{}: {error}", target.address);
    let found = target.address.to_socket_addrs().map_err(failed)?.next();
    let found = found.ok_or_else(|| format!("{}: no such host", target.address))?;
    let mut socket = TcpStream::connect_timeout(&found, PATIENCE).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut reader = BufReader::new(socket.try_clone().map_err(failed)?);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(failed)?;
    let info = line.strip_prefix("INFO ").ok_or("this is no NATS server")?;
    let info: Value = serde_json::from_str(info).map_err(|error| error.to_string())?;
    if info["tls_required"] == true {
        return Err("the server wants TLS, which this command does not speak".into());
    }
    let (user, password) = target.user.unwrap_or_default();
    let connect = json!({
        "verbose": false, "pedantic": false, "headers": true, "no_responders": true,
        "lang": "millrace", "version": env!("CARGO_PKG_VERSION"), "name": "millrace explain",
        "user": user, "pass": password,
    });
    let subject = format!("$JS.API.CONSUMER.EXPLAIN.{stream}.{consumer}");
    let request = format!("CONNECT {connect}\r\nSUB {INBOX} 1\r\nPUB {subject} {INBOX} 0\r\n\r\n");
    socket.write_all(request.as_bytes()).map_err(failed)?;
    read_answer(&mut reader, &mut socket).map_err(|reason| format!("{}: {reason}", target.address))
}

fn read_answer(reader: &mut impl BufRead, socket: &mut TcpStream) -> Result<Value, String> {
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line);
        if read.map_err(|error| error.to_string())? == 0 {
            return Err("the server closed the connection".into());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first().copied() {
            Some("PING") => {
                let answered = socket.write_all(b"PONG\r\n");
                answered.map_err(|error| error.to_string())?;
            }
            Some("-ERR") => return Err(line.trim_end().to_owned()),
            // Only the status of nobody being there has headers here.
            Some("HMSG") => {
                return Err("nobody answers: JetStream is off, or this is no millrace".into());
            }
            Some("MSG") => {
                let length = words.last().and_then(|word| word.parse::<usize>().ok());
                let length = length.filter(|length| *length <= ANSWER_BYTES_MAX);
                let mut payload = vec![0; length.ok_or("the answer cannot be read")?];
                let read = reader.read_exact(&mut payload);
                read.map_err(|error| error.to_string())?;
                return serde_json::from_slice(&payload).map_err(|error| error.to_string());
            }
            _ => {}
        }
    }
}

/// The answer for people.
fn text(answer: &Value) -> Result<String, String> {
    if let Some(reason) = answer["error"]["description"].as_str() {
        return Err(reason.to_owned());
    }
    let word = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    let mut out = format!("{} > {}: ", word("stream_name"), word("name"));
    if answer["delivering"] == true {
        out.push_str("nothing is in the way\n");
    } else {
        out.push_str("not delivering\n");
    }
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        let part = |field: &str| reason[field].as_str().unwrap_or_default().to_owned();
        out.push_str(&format!("  {}: {}\n", part("reason"), part("text")));
    }
    for (field, what) in [
        ("num_pending", "to be delivered"),
        ("num_redelivering", "to be delivered again"),
        ("num_ack_pending", "waiting for acknowledgement"),
        ("num_waiting", "pull requests waiting"),
    ] {
        out.push_str(&format!("  {:>8} {what}\n", answer[field].to_string()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_a_user() {
        for (url, address, user) in [
            ("nats://a:b@host:9", "host:9", Some(("a", "b"))),
            ("host", "host:4222", None),
            ("nats://[::1]", "[::1]:4222", None),
            ("nats://[::1]:7/", "[::1]:7", None),
        ] {
            let found = target(url);
            assert_eq!(
                (found.address.as_str(), found.user),
                (address, user),
                "{url}"
            );
        }
    }

    #[test]
    fn an_answer_is_told_in_words() {
        let answer = json!({"stream_name": "S", "name": "c", "delivering": false,
            "reasons": [{"reason": "paused", "text": "it is paused"}], "num_pending": 3,
            "num_redelivering": 0, "num_ack_pending": 1, "num_waiting": 0});
        let told = text(&answer).expect("told");
        assert!(
            told.starts_with("S > c: not delivering\n  paused: it is paused\n"),
            "{told}"
        );
        let failed = text(&json!({"error": {"description": "consumer not found"}}));
        assert_eq!(failed, Err("consumer not found".to_owned()));
    }
}
