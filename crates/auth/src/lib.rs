//! Who a client is and what it may do.
//!
//! Everything here is pure: hashing passwords, which takes a tenth of a second, is described by a
//! [`HashCheck`] that the host runs elsewhere and answers later. Account ids, sockets and the
//! texts sent to clients are left to the broker.

mod authenticator;
pub mod operator;
mod permissions;
mod reply_permits;
mod secret;
mod signature;

pub use authenticator::{
    Authenticator, Credentials, Decision, Expiry, Facts, HashCheck, Identity, Rejection, UserLimits,
};
pub use operator::add_operator_accounts;
pub use permissions::{DenyFilter, Permissions};
pub use reply_permits::ReplyPermits;
