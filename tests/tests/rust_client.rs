//! The official Rust client, unmodified, against the real binary: core messaging, streams,
//! consumers of every kind, key-value buckets and object stores.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

mod rust_client {
    mod consumers;
    mod core;
    mod harness;
    mod stores;
    mod streams;
}
