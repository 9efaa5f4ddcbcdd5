//! Questions to monitoring over HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::server::Server;

/// Status and body of a GET; the server closes behind its answer.
#[must_use]
pub fn get(server: &Server, path: &str) -> (u16, String) {
    let address = server.monitor.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}
