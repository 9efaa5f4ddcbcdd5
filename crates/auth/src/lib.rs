//! Who a client is and what it may do.
//!
//! Everything here is pure: hashing passwords, which takes a tenth of a second, is described by a
//! [`HashCheck`] that the host runs elsewhere and answers later. Account ids, sockets and the
//! texts sent to clients are left to the broker.

mod authenticator;
mod callout;
mod distinguished_name;
pub mod operator;
mod permissions;
mod proxies;
mod reply_permits;
mod secret;
mod server_keys;
mod signature;

pub use authenticator::{
    Authenticator, Credentials, Decision, Expiry, Facts, HashCheck, Identity, Rejection, UserLimits,
};
pub use callout::{CALLOUT_SUBJECT, Callout, Question, QuestionSecrets, Request};
pub use operator::add_operator_accounts;
pub use permissions::{DenyFilter, Permissions};
pub use proxies::ProxyProblem;
pub use reply_permits::ReplyPermits;
pub use secret::is_bcrypt;
pub use server_keys::{SEAL_NONCE_BYTES, ServerKeys};
