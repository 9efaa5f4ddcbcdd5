//! A client that speaks the protocol line by line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use crate::server::PATIENCE;

/// A client connection. INFO was read already.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// The options in INFO, as they came.
    pub(crate) info: String,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self {
            stream: BufReader::new(stream),
            info: String::new(),
        };
        client.info = client.line().expect("INFO");
        client
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .expect("the server reads");
    }

    /// The next line without its end; `None` when the server closed the connection.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        // A reset is a close, too: the server may leave before it has read everything.
        let length = self.stream.read_line(&mut line).unwrap_or(0);
        (length > 0).then(|| line.trim_end().to_owned())
    }

    /// Sends PING and returns the lines before the PONG, or before the end.
    pub(crate) fn ping(&mut self) -> Vec<String> {
        let _ = self.stream.get_mut().write_all(b"PING\r\n");
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            if line == "PONG" {
                break;
            }
            lines.push(line);
        }
        lines
    }

    /// Sends text and returns the lines it is answered with.
    pub(crate) fn exchange(&mut self, text: &str) -> Vec<String> {
        self.send(text);
        self.ping()
    }
}
