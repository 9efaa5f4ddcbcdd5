//! One whole server without its sockets and files: the broker, JetStream, the Raft groups and the
//! journal, wired together in one thread.
//!
//! [`Node`] is what `host` and the simulator drive. They feed connections' bytes to
//! [`Node::broker`], the ends of disk requests to [`Node::handle_disk`], and close every batch of
//! inputs with [`Node::end_of_turn`]; what came of it is taken from the broker (bytes, effects),
//! [`Node::take_disk_requests`] and [`Node::take_log`].

mod durable;
mod engine;
mod message_trace;
mod monitor;
mod node;
mod outbound;
mod reconcile;
mod replay;
mod settings;
mod start;
mod system;

pub use monitor::{HostFacts, LatencyHistogram, MonitorAnswer, SYNC_BOUNDS_NS};
pub use node::{LogLine, LogSeverity, Node};
pub use settings::{JetStreamHostSettings, NodeSettings, StoreSizes};
pub use system::{HostTask, ReloadRequest, StoreTokens};
