//! Signatures made with nkeys.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, VerifyingKey};
use millrace_config::nkey::PublicKey;

/// Whether `signature` was made over `message` with this key.
pub(crate) fn verifies(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(signature) = Signature::from_slice(signature) else {
        return false;
    };
    VerifyingKey::from_bytes(&key.key)
        .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

/// Whether `signature` (base64, URL-safe or standard) is made over `nonce` with the public `nkey`.
pub(crate) fn is_signed(nkey: &str, signature: &str, nonce: &[u8]) -> bool {
    let decoded = BASE64URL_NOPAD
        .decode(signature.as_bytes())
        .or_else(|_| BASE64.decode(signature.as_bytes()));
    let (Ok(signature), Some(key)) = (decoded, PublicKey::decode(nkey)) else {
        return false;
    };
    verifies(&key, nonce, &signature)
}
