//! What the black-box tests share: servers started as users start them, raw connections, and the
//! packages of others (the reference server, client libraries) fetched into `target/`.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

pub mod browser;
pub mod corpus;
pub mod http;
pub mod packages;
pub mod raw;
pub mod scenario;
pub mod schema;
pub mod server;
pub mod shape;
pub mod tokens;

pub use raw::RawClient;
pub use server::{Server, ServerBuilder, fresh_folder, millrace_binary};
