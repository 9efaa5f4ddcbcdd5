//! WebSocket as the server end of a client connection: the HTTP upgrade, frames in and out,
//! per-message compression (RFC 6455, RFC 7692; cluster/04). What runs inside is the client
//! protocol, to which frame boundaries mean nothing.

mod deflate;
mod reader;
mod upgrade;
mod writer;

pub use reader::{Reader, Received, Violation};
pub use upgrade::{Accepted, Progress, UpgradeReader, UpgradeRules, allowed_origin, read_upgrade};
pub use writer::Writer;

/// A frame's largest header: two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;
/// Payload of a control frame at most.
const CONTROL_BYTES_MAX: usize = 125;

const OPCODE_CONTINUATION: u8 = 0;
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

const FINAL: u8 = 0x80;
const RESERVED_1: u8 = 0x40;
const RESERVED_2_3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// The peer broke the rules of the protocol.
pub const STATUS_PROTOCOL_ERROR: u16 = 1002;
/// Text that is no UTF-8.
pub const STATUS_INVALID_TEXT: u16 = 1007;

#[cfg(test)]
mod tests;
