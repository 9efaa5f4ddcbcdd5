//! The envelope of a JWT as nkeys sign it: three base64 parts, an Ed25519 signature, claims in
//! JSON (spec core/11 §11.1). What the claims mean is in `claims.rs`.

use data_encoding::BASE64URL_NOPAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::signature::verifies;
use millrace_config::nkey::{KeyKind, PublicKey};

/// Longest token that is looked at, in bytes; the reference has no limit but that of a payload.
const TOKEN_BYTES_MAX: usize = 1 << 20;
/// The version of claims that is read; the first one is read as if it said the same in the second.
const VERSION: u32 = 2;
/// A limit that is none.
const NO_LIMIT: i64 = -1;
const ALGORITHM: &str = "ed25519-nkey";
/// Marks a token of the first version, whose signature covers the payload alone.
const FIRST_ALGORITHM: &str = "ed25519";

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
        let is_first = header.alg.eq_ignore_ascii_case(FIRST_ALGORITHM);
        if !is_first && !header.alg.eq_ignore_ascii_case(ALGORITHM) {
            return Err(TokenError::Algorithm(header.alg));
        }
        let token = if is_first {
            Self::read_first_version(payload)?
        } else {
            Self::read_payload(payload)?
        };
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
        let signed = if is_first {
            payload.as_bytes()
        } else {
            text.as_bytes().get(..signed_length).unwrap_or_default()
        };
        if !verifies(&issuer, signed, &signature) {
            return Err(TokenError::Signature);
        }
        Ok(token)
    }

    fn read_payload(payload: &str) -> Result<Self, TokenError> {
        let kind: Kind = read("payload", payload)?;
        if kind.nats.kind != T::TYPE || kind.nats.version != VERSION {
            return Err(TokenError::Type {
                found: kind.nats.kind,
                version: kind.nats.version,
                wanted: T::TYPE,
            });
        }
        read("payload", payload)
    }

    /// Claims of the first version: their type stands outside, a user's limits were optional and
    /// its networks one text.
    fn read_first_version(payload: &str) -> Result<Self, TokenError> {
        let mut value: Map<String, Value> = read("payload", payload)?;
        let kind = value.get("type").and_then(Value::as_str);
        if kind != Some(T::TYPE) {
            return Err(TokenError::Type {
                found: kind.unwrap_or_default().to_owned(),
                version: 1,
                wanted: T::TYPE,
            });
        }
        let claims = value.entry("nats").or_insert(Value::Null);
        if claims.is_null() {
            *claims = Value::Object(Map::new());
        }
        if let Value::Object(claims) = claims
            && T::SUBJECT == Some(KeyKind::User)
        {
            for limit in ["subs", "data", "payload"] {
                claims.entry(limit).or_insert_with(|| NO_LIMIT.into());
            }
            if let Some(Value::String(networks)) = claims.get("src") {
                let networks = networks.split(',').map(str::trim);
                let networks = networks.filter(|network| !network.is_empty());
                claims.insert("src".to_owned(), networks.map(Value::from).collect());
            }
        }
        serde_json::from_value(Value::Object(value))
            .map_err(|error| TokenError::Unreadable("payload", error.to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::claims::{AccountClaims, OperatorClaims, UserClaims};
    use ed25519_dalek::{Signer as _, SigningKey};
    use serde_json::json;

    fn first_version(key: &SigningKey, claims: &Value) -> String {
        let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        let payload = part(claims.to_string().as_bytes());
        let signature = part(&key.sign(payload.as_bytes()).to_bytes());
        let header = part(br#"{"typ":"jwt","alg":"ed25519"}"#);
        format!("{header}.{payload}.{signature}")
    }

    // proves: JWT-02
    #[test]
    fn tokens_of_the_first_version_are_read_as_the_second() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = |kind| {
            let key = key.verifying_key().to_bytes();
            PublicKey { kind, key }.encode()
        };
        let (operator, account, user) = (
            public(KeyKind::Operator),
            public(KeyKind::Account),
            public(KeyKind::User),
        );
        let text = first_version(
            &key,
            &json!({"iss": operator, "sub": operator, "type": "operator"}),
        );
        assert!(Token::<OperatorClaims>::decode(&text).is_ok());
        let nats = json!({"limits": {"subs": -1, "conn": 3, "wildcards": true}});
        let claims = json!({"iss": operator, "sub": account, "type": "account", "nats": nats});
        let text = first_version(&key, &claims);
        let token = Token::<AccountClaims>::decode(&text).expect("read");
        assert_eq!(token.subject, account);
        assert!(matches!(
            Token::<OperatorClaims>::decode(&text),
            Err(TokenError::Type { version: 1, .. })
        ));
        let nats = json!({"pub": {"allow": ["a"]}, "sub": {}, "src": "127.0.0.0/8, 10.0.0.0/8"});
        let claims = json!({"iss": account, "sub": user, "type": "user", "nats": nats});
        let mut text = first_version(&key, &claims);
        let token = Token::<UserClaims>::decode(&text).expect("read");
        let limits = token.claims.limits;
        assert_eq!((limits.subs, limits.payload), (-1, -1));
        assert_eq!(limits.src, ["127.0.0.0/8", "10.0.0.0/8"]);
        text.truncate(text.len() - 3);
        text.push_str("AAA");
        assert!(matches!(
            Token::<UserClaims>::decode(&text),
            Err(TokenError::Signature | TokenError::Unreadable(..))
        ));
    }
}
