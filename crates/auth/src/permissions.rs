//! What a user may publish and subscribe to.

use std::sync::Arc;

use millrace_config::options::{PermissionOptions, ResponseOptions};

/// Compiled permissions of a user, shared by its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    responses: Option<ResponseOptions>,
}

impl Permissions {
    /// Compiles what the configuration says.
    #[must_use]
    pub fn new(options: &PermissionOptions) -> Self {
        Self {
            responses: options.allow_responses,
        }
    }

    /// Whether the lists allow publishing to `subject` (reply permits are asked apart).
    #[must_use]
    pub fn can_publish(&self, _subject: &[u8]) -> bool {
        true
    }

    /// Whether a subscription to `subject`, with or without a queue, may be created.
    #[must_use]
    pub fn can_subscribe(&self, _subject: &[u8], _queue: Option<&[u8]>) -> bool {
        true
    }

    /// For an accepted subscription: the denied subjects it covers, which must be held back on
    /// delivery. `None` when there are none.
    #[must_use]
    pub fn deny_filter(&self, _subject: &[u8], _queue: Option<&[u8]>) -> Option<Arc<DenyFilter>> {
        None
    }

    /// The allowance to publish to reply subjects of messages received, if granted.
    #[must_use]
    pub fn responses(&self) -> Option<ResponseOptions> {
        self.responses
    }
}

/// Subjects that must not reach one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyFilter {
    denied: Vec<Box<[u8]>>,
}

impl DenyFilter {
    /// Whether a message on this literal subject must be held back.
    #[must_use]
    pub fn denies(&self, _subject: &[u8]) -> bool {
        !self.denied.is_empty()
    }
}
