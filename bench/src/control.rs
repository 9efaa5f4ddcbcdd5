//! A blocking client for what happens outside the measured time: creating streams, asking for their
//! state. What is measured goes through `engine`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A server that says nothing for this long has failed.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens, and the CONNECT line it wants.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    connect: String,
}

impl Endpoint {
    pub(crate) fn new(address: String) -> Self {
        Self::with_credentials(address, "")
    }

    /// Parses `[nats://][user:password@]host[:port]`.
    pub(crate) fn from_url(url: &str) -> Self {
        let rest = url.strip_prefix("nats://").unwrap_or(url);
        let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port {
            host.to_owned()
        } else {
            format!("{host}:4222")
        };
        let fields = match credentials.split_once(':') {
            Some((user, password)) => format!(
                ",\"user\":{},\"pass\":{}",
                serde_json::Value::from(user),
                serde_json::Value::from(password)
            ),
            None if credentials.is_empty() => String::new(),
            None => format!(",\"auth_token\":{}", serde_json::Value::from(credentials)),
        };
        Self::with_credentials(address, &fields)
    }

    fn with_credentials(address: String, fields: &str) -> Self {
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\
             \"lang\":\"rust\",\"version\":\"0.1.0\"{fields}}}\r\n"
        );
        Self { address, connect }
    }
}

/// A connection that has said CONNECT and seen PONG.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn connect(endpoint: &Endpoint) -> Result<Self, String> {
        let mut client = Self::connect_raw(endpoint)?;
        client.send(endpoint.connect.as_bytes())?;
        client.flush()?;
        Ok(client)
    }

    /// Connected, but nothing said.
    pub(crate) fn connect_raw(endpoint: &Endpoint) -> Result<Self, String> {
        let stream = TcpStream::connect(&endpoint.address).map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(STALL_TIMEOUT)).map_err(text)?;
        stream
            .set_write_timeout(Some(STALL_TIMEOUT))
            .map_err(text)?;
        Ok(Self { stream })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(text)
    }

    /// PING, then reads until PONG; returns what came before it.
    pub(crate) fn flush(&mut self) -> Result<Vec<u8>, String> {
        self.send(b"PING\r\n")?;
        self.read_until(b"PONG\r\n")
    }

    pub(crate) fn read_until(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        let mut received = Vec::new();
        let mut block = vec![0; 64 << 10];
        while memchr::memmem::find(&received, end).is_none() {
            let count = self.stream.read(&mut block).map_err(text)?;
            if count == 0 {
                return Err(format!("closed: {}", String::from_utf8_lossy(&received)));
            }
            received.extend_from_slice(block.get(..count).unwrap_or_default());
        }
        Ok(received)
    }

    /// A request with a JSON answer; fails if the answer holds an error.
    pub(crate) fn request(&mut self, subject: &str, body: &str) -> Result<String, String> {
        let lines = format!(
            "SUB _INBOX.request 99\r\nPUB {subject} _INBOX.request {}\r\n{body}\r\n",
            body.len()
        );
        self.send(lines.as_bytes())?;
        let mut answer = self.read_until(b"MSG _INBOX.request 99")?;
        answer.extend_from_slice(&self.flush()?);
        self.send(b"UNSUB 99\r\n")?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        if answer.contains("\"error\"") || answer.contains("NATS/1.0 503") {
            Err(format!("{subject}: {}", answer.trim()))
        } else {
            Ok(answer)
        }
    }
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn a_url_gives_the_address_and_the_credentials() {
        let endpoint = Endpoint::from_url("nats://me:it\"s@example.org:4333");
        assert_eq!(endpoint.address, "example.org:4333");
        assert!(endpoint.connect.contains(r#","user":"me","pass":"it\"s"}"#));
        let endpoint = Endpoint::from_url("token@example.org");
        assert_eq!(endpoint.address, "example.org:4222");
        assert!(endpoint.connect.contains(r#","auth_token":"token"}"#));
        let endpoint = Endpoint::from_url("127.0.0.1:1");
        assert_eq!(endpoint.address, "127.0.0.1:1");
        assert!(endpoint.connect.ends_with("\"version\":\"0.1.0\"}\r\n"));
    }
}
