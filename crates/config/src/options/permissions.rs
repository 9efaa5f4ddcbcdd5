//! Permissions as they are written in a configuration.

/// What a user may publish and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionOptions {
    /// Subjects for publishing; `None` means no restriction.
    pub publish: Option<SubjectList>,
    /// Subjects for subscribing, optionally followed by a blank and a queue name.
    pub subscribe: Option<SubjectList>,
    /// Allowance to publish to the reply subjects of messages received.
    pub allow_responses: Option<ResponseOptions>,
}

/// Subjects allowed and denied; deny wins. An empty list is the same as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectList {
    /// Allowed subjects; empty allows all that is not denied.
    pub allow: Vec<String>,
    /// Denied subjects.
    pub deny: Vec<String>,
}

/// How often and how long a reply subject may be published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOptions {
    /// Messages per reply subject; negative means no limit.
    pub max_messages: i64,
    /// Nanoseconds after delivery; negative means no limit.
    pub expires_ns: i64,
}

impl Default for ResponseOptions {
    fn default() -> Self {
        Self {
            max_messages: 1,
            expires_ns: 120_000_000_000,
        }
    }
}
