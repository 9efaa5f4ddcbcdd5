//! The names by which other rooms speak of connections, accounts and endpoints.

/// A connection for the life of the server: the `cid` of monitoring and the `client_id` of INFO.
/// Never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// An account by its place in the broker's table. Stays valid as long as the broker lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub u32);

impl AccountId {
    /// `$G`: the account of clients for whom nothing else is configured.
    pub const GLOBAL: Self = Self(0);
    /// The system account: `$SYS` unless the configuration names another.
    pub const SYSTEM: Self = Self(1);
}

/// A receiver inside the server; the number is chosen by whoever binds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);
