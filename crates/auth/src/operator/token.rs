//! The envelope of a JWT as nkeys sign it: three base64 parts, an Ed25519 signature, claims in
//! JSON (spec core/11 §11.1). What the claims mean is in `claims.rs`.

use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::signature::verifies;
use millrace_config::nkey::{KeyKind, PublicKey};

/// Longest token that is looked at, in bytes; the reference has no limit but that of a payload.
const TOKEN_BYTES_MAX: usize = 1 << 20;
/// The only version of claims that is read.
const VERSION: u32 = 2;

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("expected 3 chunks")]
    NotThreeParts,
    #[error("a token of {0} bytes is too long")]
    TooLong(usize),
    #[error("the {0} is not base64 or not JSON: {1}")]
    Unreadable(&'static str, String),
    #[error("the algorithm {0:?} is not ed25519-nkey")]
    Algorithm(String),
    #[error("claims of type {found:?} version {version} where {wanted:?} version 2 is wanted")]
    Type {
        found: String,
        version: u32,
        wanted: &'static str,
    },
    #[error("{0:?} cannot be the {1} of such a token")]
    Key(String, &'static str),
    #[error("claim failed V2 signature verification")]
    Signature,
    #[error("claim is expired")]
    Expired,
    #[error("claim is not yet valid")]
    NotYetValid,
}

/// What a kind of claims must look like.
pub trait Claims: DeserializeOwned {
    /// `nats.type`.
    const TYPE: &'static str;
    /// Kinds of keys that may sign it.
    const ISSUERS: &'static [KeyKind];
    /// The kind of key it is about.
    const SUBJECT: Option<KeyKind>;
}

/// A token whose signature fits its issuer. Whether the issuer is trusted is another question.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "T: Claims")]
pub struct Token<T> {
    /// Public key of who signed it.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// Public key it is about.
    #[serde(rename = "sub", default)]
    pub subject: String,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "aud", default)]
    pub audience: String,
    /// Seconds since 1970.
    #[serde(rename = "iat", default)]
    pub issued_at_s: i64,
    /// Seconds since 1970; 0 means never.
    #[serde(rename = "exp", default)]
    pub expires_s: i64,
    /// Seconds since 1970; 0 means always.
    #[serde(rename = "nbf", default)]
    pub not_before_s: i64,
    /// What it says.
    #[serde(rename = "nats")]
    pub claims: T,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    alg: String,
}

#[derive(Deserialize)]
struct Kind {
    nats: KindFields,
}

#[derive(Deserialize)]
struct KindFields {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    version: u32,
}

impl<T: Claims> Token<T> {
    /// Reads a token and checks its signature, type and keys, not its times.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence for the log.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::NotThreeParts);
        };
        let header: Header = read("header", header)?;
        if !header.alg.eq_ignore_ascii_case("ed25519-nkey") {
            return Err(TokenError::Algorithm(header.alg));
        }
        let kind: Kind = read("payload", payload)?;
        if kind.nats.kind != T::TYPE || kind.nats.version != VERSION {
            return Err(TokenError::Type {
                found: kind.nats.kind,
                version: kind.nats.version,
                wanted: T::TYPE,
            });
        }
        let token: Self = read("payload", payload)?;
        let issuer = PublicKey::decode(&token.issuer)
            .filter(|key| T::ISSUERS.contains(&key.kind))
            .ok_or_else(|| TokenError::Key(token.issuer.clone(), "issuer"))?;
        if let Some(kind) = T::SUBJECT
            && !PublicKey::is_kind(&token.subject, kind)
        {
            return Err(TokenError::Key(token.subject, "subject"));
        }
        let signature = decode_part("signature", signature)?;
        let signed_length = text.rfind('.').unwrap_or_default();
        let signed = text.as_bytes().get(..signed_length).unwrap_or_default();
        if !verifies(&issuer, signed, &signature) {
            return Err(TokenError::Signature);
        }
        Ok(token)
    }

    /// Whether the token holds at this time.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::NotYetValid`].
    pub fn check_times(&self, now_s: i64) -> Result<(), TokenError> {
        if self.expires_s > 0 && now_s > self.expires_s {
            return Err(TokenError::Expired);
        }
        if self.not_before_s > 0 && self.not_before_s > now_s {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

fn decode_part(part: &'static str, text: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map_err(|error| TokenError::Unreadable(part, error.to_string()))
}

fn read<T: DeserializeOwned>(part: &'static str, text: &str) -> Result<T, TokenError> {
    let bytes = decode_part(part, text)?;
    serde_json::from_slice(&bytes).map_err(|error| TokenError::Unreadable(part, error.to_string()))
}

/// Go writes empty lists and maps as `null`.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
