//! The shell around a node: sockets, TLS, timers, threads, files, signals, logs, HTTP.
//!
//! No policy lives here. One thread owns the [`millrace_node::Node`] and every socket; disk
//! threads, the hashing pool, signals and monitoring talk to it through one channel and a waker.
//! Tested with real processes, since it is the one room that the simulator does not run.

mod certificate;
mod clock;
mod connection;
mod disk;
mod disk_scratch;
mod event_loop;
mod files;
mod identity;
mod life;
mod limits;
mod logger;
mod machine;
mod monitor;
pub mod offline;
mod passwords;
mod proxy;
mod reading;
mod resting;
mod run;
mod signals;
mod start;
mod store_folder;
mod store_keys;
mod sync_times;
mod syslog;
mod tls;
pub mod token_files;
mod websocket;
mod writing;

pub use run::{EXIT_FAILURE, EXIT_OK, Reload, Reloaded, RunContext, run};
