//! Which subjects a stream listens to: its own, those of its consumers, direct gets, and for a mirror
//! those of its origin.

use bytes::Bytes;

use super::Stream;
use crate::ids::{Endpoint, StreamId};
use crate::io::Effect;
use crate::model::{AckPolicy, StreamConfig};
use crate::shared::Turn;

/// What the subjects of key-value and object stores begin with.
const STORES: [&[u8]; 2] = [b"$KV.", b"$OBJ."];

impl Stream {
    /// Subscribes to (or leaves) a consumer's subjects: pulls, acknowledgements, flow control.
    pub(super) fn bind_consumer(&self, turn: &mut Turn<'_>, name: &str, bind: bool) {
        let Some(slot) = self.consumers.get(name) else {
            return;
        };
        let stream = &self.name;
        let mut filters = vec![(
            format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"),
            Endpoint::NextRequest(self.id),
        )];
        if slot.config.ack_policy != AckPolicy::None {
            let acks = Endpoint::Ack(self.id);
            filters.push((format!("$JS.ACK.{stream}.{name}.*.*.*.*.*"), acks));
            filters.push((format!("$JS.ACK.*.*.{stream}.{name}.*.*.*.*.>"), acks));
        }
        if slot.config.flow_control {
            filters.push((
                format!("$JS.FC.{stream}.{name}.>"),
                Endpoint::FlowControl(self.id),
            ));
        }
        if !turn.shared.domain.is_empty() {
            let domain = &turn.shared.domain;
            filters.push((
                format!("$JS.{domain}.API.CONSUMER.MSG.NEXT.{stream}.{name}"),
                Endpoint::NextRequest(self.id),
            ));
        }
        let filters = filters.into_iter();
        self.bind_filters(
            turn,
            filters.map(|(filter, to)| (Bytes::from(filter), to)),
            bind,
        );
    }

    /// Subscribes to what the configuration asks for; `before` is what was subscribed to.
    pub(super) fn rebind(&self, turn: &mut Turn<'_>, before: &StreamConfig) {
        let domain = turn.shared.domain.clone();
        let old = self.filters(before, &domain);
        let new = self.filters(&self.config, &domain);
        let gone = old.iter().filter(|one| !new.contains(one)).cloned();
        self.bind_filters(turn, gone, false);
        let added = new.iter().filter(|one| !old.contains(one)).cloned();
        self.bind_filters(turn, added, true);
    }

    /// Subscribes the stream's endpoints to filters, or takes that back.
    pub(super) fn bind_filters(
        &self,
        turn: &mut Turn<'_>,
        filters: impl IntoIterator<Item = (Bytes, Endpoint)>,
        bind: bool,
    ) {
        let account = self.account;
        turn.effects
            .extend(filters.into_iter().map(|(filter, endpoint)| {
                if bind {
                    Effect::Bind {
                        account,
                        filter,
                        endpoint,
                    }
                } else {
                    Effect::Unbind {
                        account,
                        filter,
                        endpoint,
                    }
                }
            }));
    }

    /// Subscribes to (or leaves) everything of this stream.
    pub(crate) fn bind_all(&mut self, turn: &mut Turn<'_>, bind: bool) {
        self.bound = bind;
        let account = self.account;
        let filters = self.filters(&self.config, &turn.shared.domain);
        self.bind_filters(turn, filters, bind);
        for name in self.consumers.keys() {
            self.bind_consumer(turn, name, bind);
        }
        for slot in self.consumers.values() {
            let Some(subject) = slot.consumer.watched_subject() else {
                continue;
            };
            let subject = Bytes::copy_from_slice(subject);
            turn.effects.push(if bind {
                Effect::WatchInterest { account, subject }
            } else {
                Effect::UnwatchInterest { account, subject }
            });
        }
    }

    fn filters(&self, config: &StreamConfig, domain: &str) -> Vec<(Bytes, Endpoint)> {
        let ingest = Endpoint::Ingest(self.id);
        let mut filters: Vec<(Bytes, Endpoint)> = config
            .subject_filters()
            .map(|filter| (Bytes::copy_from_slice(filter), ingest))
            .collect();
        if !domain.is_empty() {
            let stores = config.subject_filters().filter(|one| is_of_store(one));
            filters.extend(stores.map(|filter| {
                let prefixed = [domain_prefix(domain).as_bytes(), filter].concat();
                (Bytes::from(prefixed), ingest)
            }));
        }
        if config.allow_direct {
            filters.extend(direct_get_filters(&self.name, domain, self.id));
        }
        filters.extend(self.mirror_filters(config, domain));
        filters
    }
}

/// Whether a subject is of a key-value or object store: clients write to these through the prefix of a
/// domain too.
fn is_of_store(subject: &[u8]) -> bool {
    STORES.iter().any(|store| subject.starts_with(store))
}

fn domain_prefix(domain: &str) -> String {
    format!("$JS.{domain}.API.")
}

/// What a publish through the prefix of a domain was meant for.
pub(super) fn without_domain(subject: &Bytes, domain: &str) -> Option<Bytes> {
    if !subject.starts_with(b"$JS.") {
        return None;
    }
    let prefix = domain_prefix(domain);
    let meant = subject.strip_prefix(prefix.as_bytes())?;
    is_of_store(meant).then(|| subject.slice(prefix.len()..))
}

/// Where direct gets of a stream arrive.
pub(super) fn direct_get_filters(name: &str, domain: &str, to: StreamId) -> Vec<(Bytes, Endpoint)> {
    let direct = Endpoint::DirectGet(to);
    let mut prefixes = vec!["$JS.API".to_owned()];
    if !domain.is_empty() {
        prefixes.push(format!("$JS.{domain}.API"));
    }
    let subjects = prefixes.into_iter().flat_map(|prefix| {
        let subject = format!("{prefix}.DIRECT.GET.{name}");
        [format!("{subject}.>"), subject]
    });
    subjects
        .map(|subject| (Bytes::from(subject), direct))
        .collect()
}
