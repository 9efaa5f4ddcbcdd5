//! Every bound of the host, with its unit.

/// Read buffer at the start, in bytes. One buffer serves all connections.
pub(crate) const READ_BUFFER_MIN: usize = 64 * 1024;
/// Read buffer at most, in bytes: what one read takes from a connection that has more. Measured:
/// beyond this the bytes have left the processor's cache before they are written on.
pub(crate) const READ_BUFFER_MAX: usize = 512 * 1024;
/// Read blocks, slices of which wait to be written or that wait to be used again, in bytes. When
/// slow readers hold on to so much, what comes next is copied.
pub(crate) const READ_BLOCKS_BYTES: usize = 8 * 1024 * 1024;
/// A turn that reads less than this, in bytes, has no use for large blocks.
pub(crate) const BUSY_TURN_BYTES: usize = 16 * 1024;
/// How long after the last busy turn memory that was kept for the next one is given back.
pub(crate) const REST_NS: u64 = 5_000_000_000;
/// Share of `max_pending` that one read may take at most: what one batch adds to a receiver before
/// its producer can be held back.
pub(crate) const READ_SHARE_OF_PENDING: u64 = 64;
/// Bytes read from all connections in one turn; what is left waits for the next one.
pub(crate) const TURN_READ_BYTES: usize = 2 * 1024 * 1024;
/// Bytes read from one connection before the others have their turn.
pub(crate) const CONNECTION_READ_BYTES: usize = READ_BUFFER_MAX;
/// Bytes written to one connection before the others have their turn.
pub(crate) const CONNECTION_WRITE_BYTES: usize = 8 * 1024 * 1024;
/// Slices handed to one `writev`.
pub(crate) const WRITE_SLICES: usize = 256;
/// Slices of a queue that is short, as most are.
pub(crate) const WRITE_SLICES_FEW: usize = 8;
/// Plain bytes given to TLS before what it made of them is written.
pub(crate) const TLS_WRITE_BYTES: usize = 64 * 1024;
/// Bytes of the client protocol that go into one WebSocket message.
pub(crate) const WEBSOCKET_MESSAGE_BYTES: usize = 64 * 1024;
/// Frames that wait for a WebSocket's socket at most, answers to PINGs among them: a peer that asks
/// and does not read is cut.
pub(crate) const WEBSOCKET_OUTPUT_BYTES: usize = 256 * 1024;
/// Longest time for TLS and HTTP in front of a WebSocket, where none is configured.
pub(crate) const WEBSOCKET_HANDSHAKE_NS: u64 = 10_000_000_000;
/// Connections that the broker does not know yet, at most: handshakes and requests in front of a
/// WebSocket. Each holds 64 KiB at most. Beyond it clients wait in the listener's queue.
pub(crate) const STRANGERS_MAX: usize = 4096;
/// So many may be there although `max_connections` is reached: they are told so.
pub(crate) const STRANGERS_MIN: usize = 64;
/// Pause of a listener while there are too many.
pub(crate) const STRANGERS_PAUSE_NS: u64 = 10_000_000;
/// Connections accepted in one turn.
pub(crate) const TURN_ACCEPTS: usize = 256;
/// Socket events taken from the system at once.
pub(crate) const TURN_EVENTS: usize = 1024;
/// Messages from other threads handled in one turn.
pub(crate) const TURN_INPUTS: usize = 1024;
/// How long a closing connection may take to write what it still holds.
pub(crate) const FLUSH_CLOSE_NS: u64 = 2_000_000_000;
/// How long a closed connection's late bytes are read and dropped, so that a reset does not
/// swallow the last error sent.
pub(crate) const LINGER_NS: u64 = 250_000_000;
/// Connections that may linger at once; beyond it they are cut.
pub(crate) const LINGERING_MAX: usize = 1024;
/// First pause after a failed accept; it doubles up to the next.
pub(crate) const ACCEPT_PAUSE_MIN_NS: u64 = 10_000_000;
/// Longest pause after a failed accept.
pub(crate) const ACCEPT_PAUSE_MAX_NS: u64 = 1_000_000_000;
/// How long the client port stays closed for a JetStream that reads its store.
pub(crate) const READY_WAIT_NS: u64 = 5_000_000_000;
/// How long a stopping server waits for its last bytes to be taken, and for the streams' last
/// checkpoints: below the ten seconds that container runtimes grant. What is not written by then is
/// replayed by the next start.
pub(crate) const SHUTDOWN_WAIT_NS: u64 = 8_000_000_000;
/// How long the header of the PROXY protocol, or the first byte without one, may take.
pub(crate) const PROXY_HEADER_NS: u64 = 5_000_000_000;
/// Bytes read at once while that header is looked for.
pub(crate) const PROXY_READ_BYTES: usize = 512;
/// Threads that compare passwords.
pub(crate) const PASSWORD_THREADS: usize = 2;
/// Monitoring connections served at once.
pub(crate) const MONITOR_CONNECTIONS: usize = 64;
/// How long a monitoring request waits for the event loop, in seconds.
pub(crate) const MONITOR_WAIT_S: u64 = 10;
/// What the dashboard may send to be published, in bytes, names and all.
pub(crate) const ACTION_BODY_BYTES: usize = 256 * 1024;
/// How long what the dashboard asks for may take, in milliseconds.
pub(crate) const ACTION_WAIT_MS: u64 = 5_000;
/// Bytes written at once when the file system cannot reserve space by itself.
pub(crate) const ZERO_FILL_BYTES: usize = 256 * 1024;
/// Turns without any disk work in flight after which a stopping server takes its disk for settled.
pub(crate) const SETTLED_TURNS: u32 = 3;
/// Longest wait of a stopping server between two turns.
pub(crate) const STOPPING_WAIT_NS: u64 = 1_000_000;
