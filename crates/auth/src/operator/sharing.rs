//! What account tokens say about exports, imports and mappings, in the form of the configuration.
//! An import that is not allowed is left out, as the reference does: the account is served without it.

use std::collections::BTreeMap;

use millrace_config::nkey::KeyKind;
use millrace_config::options::{
    AccountOptions, ExportOptions, ImportOptions, LatencyOptions, MappingOptions,
    MessageTraceOptions, ResponseType, SharedKind,
};
use millrace_config::sharing::Sharing;
use millrace_subject::{Mapping, MappingDestination, is_subset};
use serde::Deserialize;

use super::AccountTokens;
use super::token::{Claims, Token, null_is_default};

const SERVICE: &str = "service";
/// The whole, in percent.
const WHOLE: u8 = 100;

/// Something that an account exports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExportClaims {
    subject: String,
    #[serde(rename = "type")]
    kind: String,
    token_req: bool,
    #[serde(deserialize_with = "null_is_default")]
    revocations: BTreeMap<String, i64>,
    response_type: String,
    #[serde(rename = "response_threshold")]
    response_threshold_ns: u64,
    service_latency: Option<LatencyClaims>,
    account_token_position: usize,
    allow_trace: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LatencyClaims {
    /// A percentage, or `headers`.
    sampling: serde_json::Value,
    results: String,
}

/// Something that an account imports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ImportClaims {
    subject: String,
    account: String,
    token: String,
    to: String,
    local_subject: String,
    #[serde(rename = "type")]
    kind: String,
    share: bool,
    allow_trace: bool,
}

/// A share of a mapping.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct MappingClaims {
    subject: String,
    /// Left out or 0: all of it.
    weight: u8,
    cluster: String,
}

/// Traces of messages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TraceClaims {
    #[serde(rename = "dest")]
    destination: String,
    sampling: u8,
}

/// Leave of an exporter to import.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ActivationClaims {
    subject: String,
    kind: String,
    issuer_account: String,
}

impl Claims for ActivationClaims {
    const TYPE: &'static str = "activation";
    const ISSUERS: &'static [KeyKind] = &[KeyKind::Account];
    const SUBJECT: Option<KeyKind> = Some(KeyKind::Account);
}

/// Fills in what the accounts share. Gives back what is left out, as sentences for the log.
pub(super) fn share(accounts: &mut [AccountOptions], tokens: &AccountTokens) -> Vec<String> {
    let mut sharing = Sharing::new(accounts, false);
    let mut left_out = Vec::new();
    for account in accounts.iter_mut() {
        let Some(token) = tokens.get(&account.name) else {
            continue;
        };
        for claims in &token.claims.exports {
            let mut export = export(claims);
            if let Err(error) = sharing.add_export(&account.name, &export) {
                left_out.push(format!("account {}: {error}", account.name));
                export.latency = None;
                if sharing.add_export(&account.name, &export).is_err() {
                    continue;
                }
            }
            account.exports.push(export);
        }
        account.mappings = mappings(&token.claims.mappings);
        account.message_trace = trace(&token.claims.trace);
    }
    for kind in [SharedKind::Stream, SharedKind::Service] {
        for account in accounts.iter_mut() {
            let claims = tokens.get(&account.name).map(|token| &token.claims.imports);
            for claims in claims.into_iter().flatten() {
                let import = import(&account.name, claims, tokens);
                if import.kind != kind {
                    continue;
                }
                match sharing.add_import(&account.name, &import) {
                    Ok(()) => account.imports.push(import),
                    Err(error) => left_out.push(format!("account {}: {error}", account.name)),
                }
            }
        }
    }
    left_out
}

fn kind_of(text: &str) -> SharedKind {
    if text == SERVICE {
        SharedKind::Service
    } else {
        SharedKind::Stream
    }
}

fn export(claims: &ExportClaims) -> ExportOptions {
    let default = ExportOptions::default();
    let response_threshold_ns = match claims.response_threshold_ns {
        0 => default.response_threshold_ns,
        threshold_ns => threshold_ns,
    };
    let kind = kind_of(&claims.kind);
    let latency = claims.service_latency.as_ref();
    let latency = latency.filter(|_| kind == SharedKind::Service);
    ExportOptions {
        kind,
        subject: claims.subject.clone(),
        needs_token: claims.token_req,
        revocations: claims.revocations.clone(),
        account_token_position: claims.account_token_position,
        response_type: match claims.response_type.as_str() {
            "Stream" => ResponseType::Stream,
            "Chunked" => ResponseType::Chunked,
            _ => ResponseType::Singleton,
        },
        response_threshold_ns,
        latency: latency.map(|latency| LatencyOptions {
            subject: latency.results.clone(),
            sampling: sampling(&latency.sampling),
        }),
        allow_trace: claims.allow_trace,
        ..default
    }
}

/// `headers` is 0, as in the configuration.
fn sampling(value: &serde_json::Value) -> u8 {
    let percent = value.as_u64().unwrap_or(0);
    u8::try_from(percent).unwrap_or(WHOLE).min(WHOLE)
}

fn import(importer: &str, claims: &ImportClaims, tokens: &AccountTokens) -> ImportOptions {
    let kind = kind_of(&claims.kind);
    let mut import = ImportOptions {
        kind,
        account: claims.account.clone(),
        subject: claims.subject.clone(),
        share: claims.share,
        allow_trace: claims.allow_trace,
        ..ImportOptions::default()
    };
    // Without a local subject the older form holds: `subject` is what the publisher says, and `to`
    // the prefix of a stream or what a service is called at the exporter.
    match (claims.local_subject.as_str(), kind) {
        ("", SharedKind::Stream) => import.prefix.clone_from(&claims.to),
        ("", SharedKind::Service) if !claims.to.is_empty() => {
            import.subject.clone_from(&claims.to);
            import.local.clone_from(&claims.subject);
        }
        ("", SharedKind::Service) => {}
        (local, _) => local.clone_into(&mut import.local),
    }
    if let Some(activation) = activation(importer, &import, claims, tokens) {
        import.activated_at_s = Some(activation.issued_at_s);
        import.expires_s = activation.expires_s;
    }
    import
}

/// The exporter's leave, if there is a genuine one for this import.
fn activation(
    importer: &str,
    import: &ImportOptions,
    claims: &ImportClaims,
    tokens: &AccountTokens,
) -> Option<Token<ActivationClaims>> {
    if claims.token.is_empty() {
        return None;
    }
    let token = Token::<ActivationClaims>::decode(&claims.token).ok()?;
    let exporter = tokens.get(&claims.account)?;
    let is_signed_by_exporter = match token.claims.issuer_account.as_str() {
        "" => token.issuer == claims.account,
        named => {
            let mut keys = exporter.claims.signing_keys.iter();
            named == claims.account && keys.any(|key| key.key() == token.issuer)
        }
    };
    let covers = is_subset(import.subject.as_bytes(), token.claims.subject.as_bytes());
    let is_about = token.subject == importer && kind_of(&token.claims.kind) == import.kind;
    (is_signed_by_exporter && is_about && covers).then_some(token)
}

fn mappings(claims: &BTreeMap<String, Vec<MappingClaims>>) -> Vec<MappingOptions> {
    let mut mappings = Vec::new();
    for (source, shares) in claims {
        let destinations: Vec<MappingDestination> = shares
            .iter()
            .map(|share| MappingDestination {
                subject: share.subject.clone(),
                weight: if share.weight == 0 {
                    WHOLE
                } else {
                    share.weight
                },
                cluster: share.cluster.clone(),
            })
            .collect();
        if let Ok(compiled) = Mapping::new(source, &destinations) {
            mappings.push(MappingOptions {
                source: source.clone(),
                destinations,
                compiled,
            });
        }
    }
    // As in a configuration: literal sources say most and go first.
    mappings.sort_by_key(|mapping| millrace_subject::has_wildcard(mapping.source.as_bytes()));
    mappings
}

fn trace(claims: &TraceClaims) -> MessageTraceOptions {
    if claims.destination.is_empty() {
        return MessageTraceOptions::default();
    }
    MessageTraceOptions {
        destination: claims.destination.clone(),
        sampling: if claims.sampling == 0 {
            WHOLE
        } else {
            claims.sampling.min(WHOLE)
        },
    }
}
