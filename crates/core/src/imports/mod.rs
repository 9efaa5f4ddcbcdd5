//! What accounts import from each other (spec core/10): the table of imports made from the
//! options. Requests are in `service.rs`, their answers in `responses.rs`, streams in `stream.rs`.
//! Whether an import is allowed was decided with the options.

pub(crate) mod latency;
mod request_info;
mod responses;
mod service;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_config::options::{
    AccountOptions, ImportOptions, LatencyOptions, ResponseType, SharedKind,
};
use millrace_config::sharing::{find_export, service_transform};
use millrace_subject::{Transform, without_references};
use slab::Slab;

pub(crate) use request_info::RequestInfo;
pub(crate) use responses::Responses;
pub(crate) use service::Chain;
pub(crate) use stream::{Shadow, StreamImport};

use crate::account::SubscriptionKey;
use crate::broker::Broker;
use crate::ids::AccountId;
use millrace_clock::Now;

use crate::publish::{Outcome, Outgoing};
use crate::subscription::{Owner, Subscription};

/// Where an export stands: its account and its place in the list there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ExportKey {
    account: AccountId,
    place: u32,
}

/// Requests of one account that another one answers.
#[derive(Debug)]
pub(crate) struct ServiceImport {
    pub(crate) importer: AccountId,
    pub(crate) exporter: AccountId,
    /// The exporter's subject, if it is always the same.
    remote: Box<[u8]>,
    /// From the importer's subject to the exporter's.
    transform: Option<Transform>,
    /// The exporter's subject is the importer's.
    is_same: bool,
    share: bool,
    /// Until when the exporter allows it, in nanoseconds since 1970; 0 for ever.
    expires_wall_ns: i64,
    /// What of the export a response needs.
    pub(crate) export: Arc<ServiceExport>,
}

/// What an export says about requests and their answers.
#[derive(Debug)]
pub(crate) struct ServiceExport {
    pub(crate) key: ExportKey,
    pub(crate) account: AccountId,
    pub(crate) response_type: ResponseType,
    pub(crate) threshold_ns: u64,
    pub(crate) latency: Option<LatencyOptions>,
    pub(crate) allow_trace: bool,
}

/// Everything imported, and the answers that are awaited.
#[derive(Default)]
pub(crate) struct Imports {
    services: Vec<Arc<ServiceImport>>,
    /// Subscriptions that stand for `services`.
    service_keys: Vec<SubscriptionKey>,
    shadows: Slab<Shadow>,
    /// Subscriptions in other accounts that feed one here; empty without stream imports.
    shadows_of: BTreeMap<SubscriptionKey, Vec<SubscriptionKey>>,
    pub(crate) responses: Responses,
}

impl Broker {
    /// Makes all imports and mappings those of the options.
    pub(crate) fn renew_imports(&mut self) {
        for key in std::mem::take(&mut self.imports.service_keys) {
            self.remove_subscription(key);
        }
        self.imports.services.clear();
        let options = Arc::clone(&self.options);
        for account in &options.accounts {
            let id = self.accounts.find_or_add(&account.name);
            let streams = self.stream_imports(account);
            if let Some(entry) = self.accounts.get_mut(id) {
                entry.stream_imports = streams;
                entry.mappings = compiled(&account.mappings);
            }
            for import in &account.imports {
                if import.kind == SharedKind::Service {
                    self.add_service(id, import, &options.accounts);
                }
            }
        }
        if let Some(global) = self.accounts.get_mut(AccountId::GLOBAL) {
            global.mappings = compiled(&options.mappings);
        }
        self.has_mappings = self
            .accounts
            .iter()
            .any(|(_, account)| !account.mappings.is_empty());
        self.renew_shadows();
    }

    fn add_service(
        &mut self,
        importer: AccountId,
        import: &ImportOptions,
        accounts: &[AccountOptions],
    ) {
        let Ok(transform) = service_transform(import) else {
            return;
        };
        let exporter = self.accounts.find_or_add(&import.account);
        let remote = import.subject.as_bytes();
        let local = import.local_subject();
        let filter = if millrace_subject::has_wildcard(remote) {
            without_references(local.as_bytes()).0
        } else {
            local.as_bytes().to_vec()
        };
        let service = ServiceImport {
            importer,
            exporter,
            remote: remote.into(),
            is_same: transform.is_none() && millrace_subject::has_wildcard(remote),
            transform,
            share: import.share,
            expires_wall_ns: expiry_ns(import),
            export: Arc::new(service_export(exporter, import, accounts)),
        };
        let place = self.imports.services.len() as u32;
        self.imports.services.push(Arc::new(service));
        let owner = Owner::Service(place);
        let record = Subscription::new(owner, importer, &filter, None, b"");
        let key = self.add_subscription(record);
        self.imports.service_keys.push(key);
    }
}

/// When an import ends that needs its exporter's leave.
fn expiry_ns(import: &ImportOptions) -> i64 {
    import.expires_s.saturating_mul(Now::SECOND_NS as i64)
}

const fn is_over(expires_wall_ns: i64, now: Now) -> bool {
    expires_wall_ns > 0 && expires_wall_ns <= now.wall_ns
}

fn service_export(
    exporter: AccountId,
    import: &ImportOptions,
    accounts: &[AccountOptions],
) -> ServiceExport {
    let account = accounts
        .iter()
        .find(|account| account.name == import.account);
    let exports = account.map_or(&[][..], |account| &account.exports);
    let found = find_export(exports, SharedKind::Service, &import.subject);
    let place = exports
        .iter()
        .position(|export| found.is_some_and(|found| std::ptr::eq(found, export)));
    let found = found.cloned().unwrap_or_default();
    ServiceExport {
        key: ExportKey {
            account: exporter,
            place: place.map_or(u32::MAX, |place| place as u32),
        },
        account: exporter,
        response_type: found.response_type,
        threshold_ns: found.response_threshold_ns,
        latency: found.latency,
        allow_trace: found.allow_trace,
    }
}

fn compiled(
    mappings: &[millrace_config::options::MappingOptions],
) -> Vec<millrace_subject::Mapping> {
    mappings
        .iter()
        .map(|mapping| mapping.compiled.clone())
        .collect()
}

impl Broker {
    /// What imports have to do with a subscription that is gone.
    pub(crate) fn note_removed(&mut self, record: &Subscription) {
        if let Owner::Shadow(place) = record.owner {
            self.forget_shadow(place);
        }
        self.note_lost(record.account, record.filter());
    }

    /// Lets a message go on that met what stands for another account.
    #[cold]
    pub(crate) fn deliver_imported(
        &mut self,
        now: Now,
        owner: Owner,
        account: AccountId,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        match owner {
            Owner::Service(place) => self.deliver_service(now, place, outgoing),
            Owner::Responses => self.deliver_response(now, account, outgoing),
            Owner::Shadow(place) => self.deliver_shadow(now, place, outgoing),
            Owner::Callouts => self.keep_answer(outgoing),
            Owner::Session(_) | Owner::Endpoint(_) => Outcome::Refused,
        }
    }
}
