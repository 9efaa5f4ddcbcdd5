//! Reply subjects that one connection may publish to for a while (`allow_responses`).

use millrace_clock::Now;
use millrace_config::options::ResponseOptions;

/// The permits of one connection. Expired ones are forgotten as new ones come in.
#[derive(Clone, Debug, Default)]
pub struct ReplyPermits {
    _permits: (),
}

impl ReplyPermits {
    /// Notes that a message with this reply subject was delivered to the connection.
    pub fn grant(&mut self, _now: Now, _reply: &[u8], _rule: ResponseOptions) {}

    /// Takes one use of the permit for `subject`; false if there is none left.
    pub fn take(&mut self, _now: Now, _subject: &[u8]) -> bool {
        false
    }
}
