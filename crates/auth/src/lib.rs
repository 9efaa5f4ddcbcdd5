//! Who a client is and what it may do.
//!
//! Everything here is pure: hashing passwords, which takes a tenth of a second, is described by a
//! [`HashCheck`] that the host runs elsewhere and answers later. Account ids, sockets and the
//! texts sent to clients are left to the broker.

mod authenticator;
mod permissions;
mod reply_permits;
mod secret;

pub use authenticator::{
    Authenticator, Credentials, Decision, Facts, HashCheck, Identity, Rejection,
};
pub use permissions::{DenyFilter, Permissions};
pub use reply_permits::ReplyPermits;
