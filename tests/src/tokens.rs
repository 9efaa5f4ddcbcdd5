//! Keys and signed tokens for tests of operator mode: what the official tools make.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

/// A key pair that stands for an operator, an account or a user.
pub struct Key {
    signing: SigningKey,
    /// The public key in text form.
    pub public: String,
}

impl Key {
    fn new(prefix: u8, seed: u8) -> Self {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let public = text(prefix, signing.verifying_key().as_bytes());
        Self { signing, public }
    }

    /// An operator's key; the seed makes it the same in every run.
    #[must_use]
    pub fn operator(seed: u8) -> Self {
        Self::new(14 << 3, seed)
    }

    /// An account's key.
    #[must_use]
    pub fn account(seed: u8) -> Self {
        Self::new(0, seed)
    }

    /// A user's key.
    #[must_use]
    pub fn user(seed: u8) -> Self {
        Self::new(20 << 3, seed)
    }

    /// A key that others seal to; the seed is its secret.
    #[must_use]
    pub fn curve(public: &[u8]) -> String {
        text(23 << 3, public)
    }

    /// The signature in CONNECT over the nonce of INFO.
    #[must_use]
    pub fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(&self.signing.sign(nonce.as_bytes()).to_bytes())
    }

    /// A token about `subject`. `fields` are laid over the standard claims; the type stands in
    /// `nats`.
    #[must_use]
    pub fn token(&self, subject: &str, fields: &Value, mut nats: Value) -> String {
        nats["version"] = json!(2);
        let mut claims = json!({
            "jti": "ID",
            "iat": 1_700_000_000,
            "iss": self.public,
            "name": "test",
            "sub": subject,
            "nats": nats,
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.signing.sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

/// A public key in text form.
fn text(prefix: u8, key: &[u8]) -> String {
    let mut bytes = vec![prefix];
    bytes.extend_from_slice(key);
    let checksum = bytes.iter().fold(0u16, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            (sum << 1) ^ if sum & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    bytes.extend_from_slice(&checksum.to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}
