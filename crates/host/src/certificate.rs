//! What a peer's certificate says: the users it may stand for and the hash that pins it
//! (spec core/04 §4.3, §4.4). Whether it is trusted was decided by TLS.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Name};

/// Names of attributes in a distinguished name, by object identifier.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    (DOMAIN_COMPONENT, "DC"),
];
const DOMAIN_COMPONENT: &str = "0.9.2342.19200300.100.1.25";

/// Users that a certificate may stand for, best first: mail addresses, host names, URIs, then the
/// subject's name with and without its domain components. Empty if it cannot be read.
pub(crate) fn identities(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let (mut mails, mut hosts, mut uris) = (Vec::new(), Vec::new(), Vec::new());
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::RFC822Name(mail) => mails.push((*mail).to_owned()),
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                _ => {}
            }
        }
    }
    let mut all = mails;
    all.append(&mut hosts);
    all.append(&mut uris);
    let with_domain = subject_text(certificate.subject(), true);
    let without = subject_text(certificate.subject(), false);
    if with_domain != without {
        all.push(with_domain);
    }
    if !without.is_empty() {
        all.push(without);
    }
    all
}

/// Host names of a certificate of ours, lower-case: by them a client's choice picks one of several.
pub(crate) fn host_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Lower-case hex SHA-256 of the certificate's public key with its algorithm.
pub(crate) fn key_hash(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(HEXLOWER.encode(&Sha256::digest(certificate.public_key().raw)))
}

/// A name as text, last component first; domain components come last, if at all.
fn subject_text(name: &X509Name<'_>, with_domain: bool) -> String {
    let mut parts = Vec::new();
    let mut domain = Vec::new();
    for component in name.iter_rdn() {
        let mut attributes = Vec::new();
        for attribute in component.iter() {
            let identifier = attribute.attr_type().to_id_string();
            let known = ATTRIBUTES.iter().find(|(id, _)| *id == identifier);
            let value = attribute.as_str().unwrap_or_default();
            let text = match known {
                Some((_, short)) => format!("{short}={}", escaped(value)),
                None => format!("{identifier}={}", escaped(value)),
            };
            if identifier == DOMAIN_COMPONENT {
                domain.push(text);
            } else {
                attributes.push(text);
            }
        }
        if !attributes.is_empty() {
            parts.push(attributes.join("+"));
        }
    }
    parts.reverse();
    if with_domain {
        domain.reverse();
        parts.append(&mut domain);
    }
    parts.join(",")
}

/// A value with the escapes of RFC 2253.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (character == '#' && at == 0)
            || (character == ' ' && (at == 0 || at == last));
        if special {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
