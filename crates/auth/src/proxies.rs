//! Proxies that vouch for their clients: they sign the nonce of INFO (spec core/04 §4.7).

use crate::signature::is_signed;

/// Why a client was refused although its own credentials may be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProblem {
    /// The signature is by none of the trusted keys.
    NotTrusted,
    /// The user must come through a trusted proxy.
    Required,
}

/// The public keys of proxies.
#[derive(Default)]
pub(crate) struct TrustedProxies(Vec<String>);

impl TrustedProxies {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.to_vec())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a trusted proxy vouches for the client; without a signature none does.
    ///
    /// # Errors
    /// Somebody signed who is not trusted.
    pub(crate) fn vouch(
        &self,
        signature: Option<&str>,
        nonce: &[u8],
    ) -> Result<bool, ProxyProblem> {
        let Some(signature) = signature.filter(|_| !self.is_empty()) else {
            return Ok(false);
        };
        // Without a nonce a signature could be an old one.
        let is_trusted = |key: &String| !nonce.is_empty() && is_signed(key, signature, nonce);
        if self.0.iter().any(is_trusted) {
            Ok(true)
        } else {
            Err(ProxyProblem::NotTrusted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL_NOPAD;
    use ed25519_dalek::{Signer as _, SigningKey};
    use millrace_config::nkey::{KeyKind, PublicKey};

    // proves: TLS-21
    #[test]
    fn a_trusted_proxy_signs_this_connections_nonce() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = PublicKey {
            kind: KeyKind::User,
            key: key.verifying_key().to_bytes(),
        };
        let proxies = TrustedProxies::new(&[public.encode()]);
        let sign = |nonce: &[u8]| BASE64URL_NOPAD.encode(&key.sign(nonce).to_bytes());
        let refused = Err(ProxyProblem::NotTrusted);
        assert_eq!(proxies.vouch(Some(&sign(b"nonce")), b"nonce"), Ok(true));
        assert_eq!(proxies.vouch(Some(&sign(b"other")), b"nonce"), refused);
        assert_eq!(proxies.vouch(Some(&sign(b"")), b""), refused);
        assert_eq!(proxies.vouch(Some("AAAA"), b"nonce"), refused);
        assert_eq!(proxies.vouch(None, b"nonce"), Ok(false));
        assert_eq!(
            TrustedProxies::default().vouch(Some("x"), b"nonce"),
            Ok(false)
        );
    }
}
