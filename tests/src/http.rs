//! Questions to monitoring over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::server::Server;

/// Where monitoring listens, as `host:port`.
#[must_use]
pub fn http_address(server: &Server) -> String {
    let (_, address) = server.monitor.split_once("://").unwrap();
    address.to_owned()
}

/// Status and body of a GET; the server closes behind its answer.
#[must_use]
pub fn get(server: &Server, path: &str) -> (u16, String) {
    get_with(&http_address(server), path, "")
}

/// The same with header lines of one's own, each with its line end. What is no answer in HTTP has
/// the status 0.
#[must_use]
pub fn get_with(address: &str, path: &str, headers: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n");
    ask(address, &request)
}

/// Sends a whole request and reads until the server closes.
#[must_use]
pub fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A server that resets has said all it had to say.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or(0), body.to_owned())
}
