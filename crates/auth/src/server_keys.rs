//! The keys of this server: what it signs with, and what others seal to.

use crypto_box::aead::Aead;
use crypto_box::{Nonce, PublicKey as BoxPublicKey, SalsaBox, SecretKey};
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ed25519_dalek::{Signer, SigningKey};
use millrace_config::nkey::{KeyKind, PublicKey};
use sha2::{Digest, Sha256};

/// Begins everything that is sealed.
const SEAL_VERSION: &[u8] = b"xkv1";
/// Bytes of the number that is used once for each seal.
pub const SEAL_NONCE_BYTES: usize = 24;

/// Secret keys of a server, made from entropy by whoever starts it.
#[derive(Clone, Default)]
pub struct ServerKeys {
    signing_seed: [u8; 32],
    curve_seed: [u8; 32],
}

impl std::fmt::Debug for ServerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerKeys")
    }
}

impl ServerKeys {
    /// Keys from 32 bytes of entropy each.
    #[must_use]
    pub const fn new(signing_seed: [u8; 32], curve_seed: [u8; 32]) -> Self {
        Self {
            signing_seed,
            curve_seed,
        }
    }

    /// The public signing key (`N...`): the server's id.
    #[must_use]
    pub fn server_id(&self) -> String {
        public_text(KeyKind::Server, &self.signing_seed)
    }

    /// The public key that others seal to (`X...`).
    #[must_use]
    pub fn curve_id(&self) -> String {
        let secret = SecretKey::from(self.curve_seed);
        let key = *secret.public_key().as_bytes();
        let kind = KeyKind::Curve;
        PublicKey { kind, key }.encode()
    }

    /// A token with these claims, signed by this server. `iss` and `jti` are filled in.
    pub(crate) fn sign(&self, mut claims: serde_json::Value) -> String {
        claims["iss"] = self.server_id().into();
        let digest = Sha256::digest(claims.to_string().as_bytes());
        claims["jti"] = BASE32_NOPAD.encode(&digest).into();
        let header = serde_json::json!({"typ": "JWT", "alg": "ed25519-nkey"});
        let part = |value: &serde_json::Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let key = SigningKey::from_bytes(&self.signing_seed);
        let signature = key.sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }

    /// Seals for the holder of a public curve key. `nonce` must never be used again.
    pub(crate) fn seal(
        &self,
        to: &str,
        nonce: [u8; SEAL_NONCE_BYTES],
        text: &[u8],
    ) -> Option<Vec<u8>> {
        let sealed = self.door(to)?.encrypt(&Nonce::from(nonce), text).ok()?;
        Some([SEAL_VERSION, &nonce, &sealed].concat())
    }

    /// Opens what the holder of a public curve key has sealed for this server.
    pub(crate) fn open(&self, from: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(SEAL_VERSION)?;
        let (nonce, rest) = rest.split_first_chunk::<SEAL_NONCE_BYTES>()?;
        self.door(from)?.decrypt(&Nonce::from(*nonce), rest).ok()
    }

    fn door(&self, other: &str) -> Option<SalsaBox> {
        let other = PublicKey::decode(other).filter(|key| key.kind == KeyKind::Curve)?;
        let secret = SecretKey::from(self.curve_seed);
        Some(SalsaBox::new(&BoxPublicKey::from(other.key), &secret))
    }
}

/// The public key that belongs to a seed, in text form.
pub(crate) fn public_text(kind: KeyKind, seed: &[u8; 32]) -> String {
    let key = SigningKey::from_bytes(seed).verifying_key().to_bytes();
    PublicKey { kind, key }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: JWT-22
    #[test]
    fn what_is_sealed_can_be_opened_by_the_other_side_only() {
        let server = ServerKeys::new([1; 32], [2; 32]);
        let service = ServerKeys::new([3; 32], [4; 32]);
        let sealed = server
            .seal(&service.curve_id(), [9; 24], b"eyJ")
            .expect("sealed");
        assert!(sealed.starts_with(b"xkv1"));
        let opened = service.open(&server.curve_id(), &sealed);
        assert_eq!(opened.as_deref(), Some(&b"eyJ"[..]));
        let stranger = ServerKeys::new([5; 32], [6; 32]);
        assert_eq!(stranger.open(&server.curve_id(), &sealed), None);
        assert_eq!(server.open("X", b"xkv1"), None);
        assert!(server.curve_id().starts_with('X') && server.server_id().starts_with('N'));
    }
}
