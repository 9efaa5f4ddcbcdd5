//! Subject mappings: what a client's message is called before anything is asked about it.

use millrace_clock::Now;

use crate::broker::Broker;
use crate::ids::AccountId;
use crate::message_trace::TraceKind;

impl Broker {
    /// What a subject becomes by the mappings of an account; `None` if none is about it. A message
    /// that is meant to be lost gets an empty subject, which matches nothing.
    pub(crate) fn mapped_subject(&mut self, account: AccountId, subject: &[u8]) -> Option<Vec<u8>> {
        let account = self.accounts.get(account)?;
        let mapping = account
            .mappings
            .iter()
            .find(|mapping| mapping.is_about(subject))?;
        let cluster = &self.identity.cluster;
        let mapped = mapping.map(subject, cluster, &mut self.random);
        Some(mapped.unwrap_or_default())
    }

    /// As [`Self::mapped_subject`] for a client's message, told in the trace.
    #[cold]
    pub(crate) fn map_published(
        &mut self,
        now: Now,
        slot: u32,
        account: AccountId,
        subject: &[u8],
    ) -> Option<Vec<u8>> {
        let mapped = self.mapped_subject(account, subject)?;
        if self.is_message_traced {
            let to = mapped.clone();
            self.add_step(now, TraceKind::Mapped { to });
        }
        if self.is_tracing {
            let (from, to) = (
                String::from_utf8_lossy(subject),
                String::from_utf8_lossy(&mapped),
            );
            self.trace(slot, &format!("<<- [MAPPING {from} -> {to}]"));
        }
        Some(mapped)
    }
}
