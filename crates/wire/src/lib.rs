//! Codecs: bytes to borrowed frames and back, without input or output of their own.
//!
//! `client` parses and `encode` writes the client protocol, `headers` reads and edits header
//! blocks, `info` holds INFO and CONNECT, `json` reads JSON as tolerantly as Go clients expect,
//! `websocket` carries the client protocol for browsers, `proxy` says whom a proxy speaks for.
//! What a frame means is decided by `core`.

pub mod client;
pub mod encode;
pub mod headers;
pub mod info;
pub mod json;
pub mod proxy;
pub mod quote;
pub mod websocket;
