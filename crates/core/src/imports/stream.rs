//! Streams from other accounts. A subscription that meets an imported subject gets a *shadow*: a
//! subscription in the exporting account that hands its messages, under the importer's subject, to
//! the one it stands for. All that decides a delivery stays with that one.

use std::sync::Arc;

use millrace_clock::Now;
use millrace_config::options::{AccountOptions, SharedKind};
use millrace_config::sharing::stream_transform;
use millrace_subject::{Transform, intersection, without_references};

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::ids::AccountId;
use crate::message_trace::Suspended;
use crate::publish::{Outcome, Outgoing};
use crate::subscription::{Owner, Subscription};

/// Messages of another account.
#[derive(Debug)]
pub(crate) struct StreamImport {
    exporter: AccountId,
    /// What the exporter publishes on.
    remote: Box<[u8]>,
    /// What subscribers here say, as a filter.
    local: Box<[u8]>,
    /// From the exporter's subject to the importer's; without it both are the same or literal.
    forth: Option<Transform>,
    back: Option<Transform>,
    /// Traces of messages go on with its subscribers.
    allow_trace: bool,
    /// Until when the exporter allows it, in nanoseconds since 1970; 0 for ever.
    expires_wall_ns: i64,
}

/// The meaning of a subscription record in the exporter's account.
#[derive(Debug)]
pub(crate) struct Shadow {
    /// The subscription it stands for.
    parent: SubscriptionKey,
    import: Arc<StreamImport>,
}

impl StreamImport {
    /// What to subscribe to in the exporter's account for a subscription here, if anything.
    fn remote_filter(&self, filter: &[u8]) -> Option<Vec<u8>> {
        let wanted = intersection(filter, &self.local)?;
        match &self.back {
            // Wildcards are tokens like others for a transform that only moves tokens.
            Some(back) => back.apply(&wanted, &mut millrace_clock::Random::new(0)),
            None if millrace_subject::has_wildcard(&self.remote) => Some(wanted),
            None => Some(self.remote.to_vec()),
        }
    }

    /// What a message of the exporter is called here.
    fn local_subject(&self, subject: &[u8]) -> Vec<u8> {
        match &self.forth {
            Some(forth) => forth
                .apply(subject, &mut millrace_clock::Random::new(0))
                .unwrap_or_default(),
            None if millrace_subject::has_wildcard(&self.remote) => subject.to_vec(),
            None => self.local.to_vec(),
        }
    }
}

impl Broker {
    pub(super) fn stream_imports(&mut self, account: &AccountOptions) -> Vec<Arc<StreamImport>> {
        let mut imports = Vec::new();
        for import in &account.imports {
            let Ok(forth) = stream_transform(import) else {
                continue;
            };
            if import.kind != SharedKind::Stream {
                continue;
            }
            let local = import.local_subject();
            let local = if millrace_subject::has_wildcard(import.subject.as_bytes()) {
                without_references(local.as_bytes()).0
            } else {
                local.into_bytes()
            };
            imports.push(Arc::new(StreamImport {
                exporter: self.accounts.find_or_add(&import.account),
                remote: import.subject.as_bytes().into(),
                local: local.into_boxed_slice(),
                back: forth.as_ref().and_then(Transform::reversed),
                forth,
                allow_trace: import.allow_trace,
                expires_wall_ns: super::expiry_ns(import),
            }));
        }
        imports
    }

    /// Makes all shadows those of the imports that hold now.
    pub(super) fn renew_shadows(&mut self) {
        let old = std::mem::take(&mut self.imports.shadows_of);
        for key in old.into_values().flatten() {
            self.remove_subscription(key);
        }
        let parents: Vec<SubscriptionKey> = self
            .subscriptions
            .iter()
            .filter(|(_, record)| may_import(record.owner))
            .map(|(key, _)| key)
            .collect();
        for key in parents {
            self.add_shadows(key);
        }
    }

    /// Adds what the imports of its account let a new subscription hear from other accounts.
    pub(crate) fn add_shadows(&mut self, parent: SubscriptionKey) {
        let Some(record) = self.subscriptions.get(parent) else {
            return;
        };
        let Some(account) = self.accounts.get(record.account) else {
            return;
        };
        if account.stream_imports.is_empty() || !may_import(record.owner) {
            return;
        }
        let mut wanted = Vec::new();
        for import in &account.stream_imports {
            if let Some(filter) = import.remote_filter(record.filter()) {
                wanted.push((Arc::clone(import), filter));
            }
        }
        let queue = record.queue().map(<[u8]>::to_vec);
        for (import, filter) in wanted {
            let exporter = import.exporter;
            let place = self.imports.shadows.insert(Shadow { parent, import }) as u32;
            let owner = Owner::Shadow(place);
            let record = Subscription::new(owner, exporter, &filter, queue.as_deref(), b"");
            let key = self.add_subscription(record);
            self.imports.shadows_of.entry(parent).or_default().push(key);
        }
    }

    /// A subscription is gone: so are those that stood for it elsewhere.
    pub(crate) fn drop_shadows(&mut self, parent: SubscriptionKey) {
        if self.imports.shadows_of.is_empty() {
            return;
        }
        for key in self.imports.shadows_of.remove(&parent).unwrap_or_default() {
            self.remove_subscription(key);
        }
    }

    /// The record of a shadow is gone.
    pub(crate) fn forget_shadow(&mut self, place: u32) {
        self.imports.shadows.try_remove(place as usize);
    }

    /// A message of the exporter meets a shadow.
    pub(crate) fn deliver_shadow(
        &mut self,
        now: Now,
        place: u32,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        let Some(shadow) = self.imports.shadows.get(place as usize) else {
            return Outcome::Refused;
        };
        // A request that came from another account does not go on as a stream.
        if outgoing.chain.is_some() || super::is_over(shadow.import.expires_wall_ns, now) {
            return Outcome::Refused;
        }
        let (parent, import) = (shadow.parent, Arc::clone(&shadow.import));
        let subject = import.local_subject(outgoing.destination);
        let mut suspended = Suspended::NOTHING;
        if self.is_message_traced {
            let heard = self.subscriptions.get(parent);
            let importer = heard.map(|record| record.account).unwrap_or_default();
            let filter = heard.and_then(|record| import.remote_filter(record.filter()));
            let allows = import.allow_trace;
            match self.trace_stream_import(now, (importer, allows), &subject, filter) {
                Some(rest) => suspended = rest,
                None => {
                    outgoing.delivered.imports += 1;
                    return Outcome::Taken;
                }
            }
        }
        let mut message = *outgoing.message;
        if message.subject == outgoing.destination {
            message.subject = &subject;
        }
        let mut inner = outgoing.onward(&message, &subject, None);
        let outcome = self.deliver(now, parent, &mut inner);
        self.resume_trace(suspended);
        let (delivered, bytes) = (inner.delivered, inner.delivered_bytes);
        outgoing.count(delivered, bytes);
        outcome
    }
}

/// Whether a subscription may hear of other accounts.
const fn may_import(owner: Owner) -> bool {
    matches!(owner, Owner::Session(_) | Owner::Endpoint(_))
}
