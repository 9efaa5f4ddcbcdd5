//! The binary from outside: command line, logins and permissions.
//!
//! Every server listens on loopback with a port the system picks. Nothing waits by sleeping:
//! tests read the log, or the connection, until what they need is there.

mod cli;
mod client;
mod logins;
mod permissions;
mod server;
