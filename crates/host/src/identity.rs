//! Who this server is: ids and secrets from the system's entropy.

use millrace_config::nkey::{KeyKind, PublicKey};

/// Bytes of the system's entropy.
///
/// # Errors
/// The system has none to give; no server can start then.
pub(crate) fn entropy<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no entropy from the system: {error}"))?;
    Ok(bytes)
}

/// A server id: 32 bytes in the text form of public keys, 56 characters beginning with `N`.
pub(crate) fn server_id(key: &[u8; 32]) -> String {
    let kind = KeyKind::Server;
    PublicKey { kind, key: *key }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_public_server_keys() {
        let id = server_id(&[7; 32]);
        assert_eq!((id.len(), id.starts_with('N')), (56, true));
    }
}
