//! The `cluster` and `gateway` blocks.

use super::super::{Decoder, Field, field, unknown_field};
use super::parts::{
    LinkAuthorization, compression, duration, integer, known_urls_tls, link_permissions, listen,
    switch, text, url, urls, write_timeout,
};
use crate::language::{Entry, Value};
use crate::options::{InactiveOptions, Options};

pub(in super::super) fn cluster(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        let text = format!("Expected map to define cluster, got {found}");
        return decoder.error(entry, text);
    };
    if !map.is_empty() {
        options.inactive.note("cluster");
    }
    let table: Vec<&Field<InactiveOptions>> = CLUSTER.iter().chain(LINK).collect();
    decoder.fields(map, &mut options.inactive, &table, unknown_field);
}

/// Keys that clusters and gateways share.
const LINK: &[Field<InactiveOptions>] = &[
    field(&["listen"], listen),
    field(&["host", "net"], text),
    field(&["port"], integer),
    field(&["tls"], known_urls_tls),
    field(&["connect_retries"], integer),
    field(&["connect_backoff"], switch),
    field(&["write_deadline"], duration),
    field(&["write_timeout"], write_timeout),
];

const CLUSTER: &[Field<InactiveOptions>] = &[
    field(&["name"], |d, o, e| {
        let Some(name) = d.text(e) else { return };
        if name.contains(' ') {
            d.error(e, "cluster name cannot contain spaces");
        }
        o.cluster_name = Some(name).filter(|name| !name.is_empty());
    }),
    field(&["authorization"], |d, _, e| {
        LinkAuthorization::of("Cluster").read(d, e);
    }),
    field(&["routes"], |d, _, e| urls(d, e, "route")),
    field(&["cluster_advertise", "advertise"], text),
    field(&["no_advertise"], switch),
    field(&["permissions"], link_permissions),
    field(&["pool_size"], |d, o, e| {
        o.pool_size = d.integer(e).unwrap_or(0)
    }),
    field(&["accounts"], |d, o, e| o.pinned_accounts = d.texts(e)),
    field(&["compression"], |d, o, e| {
        compression(d, &mut o.compression_modes, e)
    }),
    field(&["ping_interval"], duration),
    field(&["ping_max"], integer),
];

pub(in super::super) fn gateway(decoder: &mut Decoder<'_>, options: &mut Options, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.type_name();
        return decoder.error(entry, format!("Expected gateway to be a map, got {found}"));
    };
    if !map.is_empty() {
        options.inactive.note("gateway");
    }
    let table: Vec<&Field<InactiveOptions>> = GATEWAY.iter().chain(LINK).collect();
    decoder.fields(map, &mut options.inactive, &table, unknown_field);
}

const GATEWAY: &[Field<InactiveOptions>] = &[
    field(&["name"], |d, o, e| {
        let Some(name) = d.text(e) else { return };
        if name.contains(' ') {
            d.error(e, "gateway name cannot contain spaces");
        }
        o.gateway_name = Some(name).filter(|name| !name.is_empty());
    }),
    field(&["authorization"], |d, _, e| {
        LinkAuthorization::of("Gateway").read(d, e);
    }),
    field(&["advertise"], text),
    field(&["reject_unknown", "reject_unknown_cluster"], switch),
    field(&["gateways"], |d, _, e| {
        let Value::Array(elements) = &e.value else {
            let found = e.value.type_name();
            let text = format!("Expected gateways field to be an array, got {found}");
            return d.error(e, text);
        };
        for element in elements {
            remote(d, element);
        }
    }),
];

fn remote(decoder: &mut Decoder<'_>, entry: &Entry) {
    let Value::Map(map) = &entry.value else {
        let found = entry.value.shown();
        let text = format!("Expected gateway entry to be a map/struct, got {found}");
        return decoder.error(entry, text);
    };
    let table: Vec<&Field<()>> = REMOTE.iter().collect();
    decoder.fields(map, &mut (), &table, unknown_field);
}

const REMOTE: &[Field<()>] = &[
    field(&["name"], text),
    field(&["tls"], known_urls_tls),
    field(&["url"], |d, (), e| url(d, e, "gateway")),
    field(&["urls"], |d, (), e| urls(d, e, "gateway")),
];
