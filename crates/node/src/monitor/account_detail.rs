//! One account in `/accountz`: what it shares and how it maps subjects, as configured. The services
//! that every account has of the system account are not among its imports here.

use millrace_config::options::{
    AccountOptions, ExportOptions, ImportOptions, MappingOptions, SharedKind,
};
use millrace_core::{AccountId, AccountInfo};
use serde_json::{Map, Value, json};

use super::subsz::sublist_statistics;
use super::time_text;
use crate::node::Node;

impl Node {
    pub(super) fn account_detail(&self, account: &AccountInfo) -> Value {
        let jetstream = self.engine.as_ref().and_then(|engine| engine.jetstream());
        let has_jetstream = jetstream.is_some_and(|jetstream| {
            let mut accounts = jetstream.accounts.values();
            accounts.any(|one| one.name == account.name)
        });
        let mut detail = json!({
            "account_name": account.name,
            "update_time": time_text(self.started.wall_ns),
        });
        if account.id == AccountId::SYSTEM {
            detail["is_system"] = json!(true);
        }
        for (name, value) in [
            ("expired", json!(false)),
            ("complete", json!(true)),
            ("jetstream_enabled", json!(has_jetstream)),
            ("leafnode_connections", json!(0)),
            ("client_connections", json!(account.connections)),
            ("subscriptions", json!(account.subscriptions)),
        ] {
            detail[name] = value;
        }
        let mut configured = self.options.accounts.iter();
        let configured = configured.rfind(|one| one.name == account.name);
        let mappings = match configured {
            Some(configured) => &configured.mappings,
            None if account.id == AccountId::GLOBAL => &self.options.mappings,
            None => &Vec::new(),
        };
        if !mappings.is_empty() {
            detail["mappings"] = mappings_value(mappings);
        }
        if let Some(configured) = configured {
            put_shared(&mut detail, configured);
        }
        detail["name_tag"] = json!(account.name);
        detail["sublist_stats"] = sublist_statistics(account.subscriptions);
        detail
    }
}

fn put_shared(detail: &mut Value, account: &AccountOptions) {
    if !account.exports.is_empty() {
        detail["exports"] = account.exports.iter().map(export_value).collect();
    }
    if !account.imports.is_empty() {
        detail["imports"] = account.imports.iter().map(import_value).collect();
    }
}

fn export_value(export: &ExportOptions) -> Value {
    let mut value = json!({"subject": export.subject, "type": export.kind.word()});
    if export.kind == SharedKind::Service {
        let name = export.response_type.name();
        // The one word that monitoring and tokens spell differently.
        let name = if name == "Stream" { "Streamed" } else { name };
        value["response_type"] = json!(name);
    }
    if let Some(latency) = &export.latency {
        let (sampling, results) = (latency.sampling, &latency.subject);
        value["service_latency"] = json!({"sampling": sampling, "results": results});
    }
    if let Some(accounts) = &export.accounts {
        value["approved_accounts"] = json!(accounts);
    }
    value
}

fn import_value(import: &ImportOptions) -> Value {
    let local = import.local_subject();
    let mut value = json!({"subject": import.subject, "account": import.account});
    if import.kind == SharedKind::Service {
        value["to"] = json!(local);
    }
    for (name, field) in [
        ("local_subject", json!(local)),
        ("type", json!(import.kind.word())),
        ("invalid", json!(false)),
        ("share", json!(import.share)),
        ("tracking", json!(false)),
    ] {
        value[name] = field;
    }
    value
}

fn mappings_value(mappings: &[MappingOptions]) -> Value {
    let mut fields = Map::new();
    for mapping in mappings {
        let destinations = mapping.destinations.iter().map(|one| {
            let mut value = json!({"subject": one.subject, "weight": one.weight});
            if !one.cluster.is_empty() {
                value["cluster"] = json!(one.cluster);
            }
            value
        });
        fields.insert(mapping.source.clone(), destinations.collect());
    }
    Value::Object(fields)
}
