//! Snapshots of the broker's state for monitoring; how they are shown is left to `node`.

use core::net::IpAddr;

use millrace_clock::Now;

use crate::effects::{CloseReason, ConnectionKind, TlsFacts};
use crate::ids::{AccountId, ConnectionId};

/// Counters since the server started (`/varz`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Messages received from clients.
    pub in_msgs: u64,
    /// Bytes of headers and payloads received from clients.
    pub in_bytes: u64,
    /// Messages queued for clients.
    pub out_msgs: u64,
    /// Bytes of headers and payloads queued for clients.
    pub out_bytes: u64,
    /// Connections accepted.
    pub total_connections: u64,
    /// Clients cut because they did not read fast enough.
    pub slow_consumers: u64,
    /// Clients cut because pings went unanswered.
    pub stale_connections: u64,
    /// How often a publisher was held back by a slow receiver.
    pub stalled_clients: u64,
}

/// One connection as `/connz` shows it, open or closed.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// `cid`.
    pub id: ConnectionId,
    /// The door it came in by.
    pub kind: ConnectionKind,
    /// Address of the peer.
    pub ip: Option<IpAddr>,
    /// Port of the peer.
    pub port: u16,
    /// When it was accepted.
    pub started: Now,
    /// When data last came or went.
    pub last_activity: Now,
    /// When and why it ended; `None` while it is open.
    pub stopped: Option<(Now, CloseReason)>,
    /// Round trip time; zero when not measured yet.
    pub round_trip_ns: u64,
    /// Bytes waiting to be written.
    pub pending_bytes: usize,
    /// Messages received from the client.
    pub in_msgs: u64,
    /// Bytes received from the client.
    pub in_bytes: u64,
    /// Messages sent to the client.
    pub out_msgs: u64,
    /// Bytes sent to the client.
    pub out_bytes: u64,
    /// How often it was held back as a fast producer.
    pub stalls: u64,
    /// Subscriptions held now.
    pub subscriptions: usize,
    /// `name` of CONNECT.
    pub name: String,
    /// `lang` of CONNECT.
    pub lang: String,
    /// `version` of CONNECT.
    pub version: String,
    /// User, nkey or token placeholder it logged in as; empty without authentication.
    pub authorized_user: String,
    /// Account it is bound to; `None` before login.
    pub account: Option<AccountId>,
    /// Name of that account.
    pub account_name: String,
    /// TLS session, if there is one.
    pub tls: Option<TlsFacts>,
}

/// One client subscription as `/connz?subs=detail` and `/subsz` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Whose it is.
    pub id: ConnectionId,
    /// The account it stands in.
    pub account: AccountId,
    /// Filter.
    pub subject: Vec<u8>,
    /// Queue group; empty for none.
    pub queue: Vec<u8>,
    /// Client-chosen id.
    pub sid: Vec<u8>,
    /// Messages delivered so far.
    pub delivered: u64,
    /// Auto-unsubscribe limit; zero for none.
    pub max: u64,
}

/// One account as `/accountz` and `/accstatz` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountInfo {
    /// Its place in the table.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Clients bound to it now.
    pub connections: usize,
    /// Clients ever bound to it.
    pub total_connections: u64,
    /// Subscriptions of clients and of receivers inside the server.
    pub subscriptions: usize,
    /// Messages sent to its clients.
    pub sent_msgs: u64,
    /// Bytes sent to its clients.
    pub sent_bytes: u64,
    /// Messages received from its clients.
    pub received_msgs: u64,
    /// Bytes received from its clients.
    pub received_bytes: u64,
    /// Clients of it that were cut as slow consumers.
    pub slow_consumers: u64,
}

/// What happened to a client, for the system account.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// It logged in.
    Connected(Box<ConnectionInfo>),
    /// It is gone.
    Disconnected(Box<ConnectionInfo>),
    /// It did not get in.
    Refused(Box<ConnectionInfo>),
}
