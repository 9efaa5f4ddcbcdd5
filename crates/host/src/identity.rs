//! Who this server is: ids and secrets from the system's entropy.

use data_encoding::BASE32_NOPAD;

/// First byte of a public server key, which makes its text begin with `N`.
const SERVER_PREFIX: u8 = 13 << 3;

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
    let mut raw = Vec::with_capacity(35);
    raw.push(SERVER_PREFIX);
    raw.extend_from_slice(key);
    let check = crc16(&raw);
    raw.extend_from_slice(&check.to_le_bytes());
    BASE32_NOPAD.encode(&raw)
}

/// CRC-16 with polynomial 0x1021 and initial value 0 (XMODEM), as key texts use it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_public_server_keys() {
        let id = server_id(&[7; 32]);
        assert_eq!((id.len(), id.starts_with('N')), (56, true));
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
