//! Streams that come and go in an account, as news for those that copy them.

use millrace_clock::Now;

use crate::engine::JetStream;
use crate::ids::{AccountRef, StreamId};
use crate::io::Effect;
use crate::outbound::Outbound;

impl JetStream {
    /// A stream came or went: mirrors and sources of its account that copy it are told.
    pub(crate) fn origin_changed(
        &mut self,
        now: Now,
        (account, name): (AccountRef, String),
        exists: bool,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let copies = self.streams.values();
        let copies = copies.filter(|stream| stream.account == account && stream.copies(&name));
        let ids: Vec<StreamId> = copies.map(|stream| stream.id).collect();
        for id in ids {
            self.with_stream(now, id, out, effects, |stream, turn| {
                stream.origin_changed(turn, &name, exists);
            });
        }
    }
}
