//! Who this server is: ids and secrets from the system's entropy.

/// Bytes of the system's entropy.
///
/// # Errors
/// The system has none to give; no server can start then.
pub(crate) fn entropy<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no entropy from the system: {error}"))?;
    Ok(bytes)
}
