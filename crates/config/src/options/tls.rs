//! The `tls` block. Reading the files it names is left to the host.

const TIMEOUT_NS: u64 = 2_000_000_000;

/// Oldest protocol version accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// Who speaks first on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandshakeMode {
    /// INFO in plain text, then the handshake.
    #[default]
    InfoFirst,
    /// Nothing but the handshake.
    HandshakeFirst,
    /// Wait this many nanoseconds for a handshake, then send INFO.
    Fallback {
        /// How long to wait.
        delay_ns: u64,
    },
}

/// A certificate chain and its key, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificatePair {
    /// The chain.
    pub cert_file: String,
    /// The key.
    pub key_file: String,
}

/// A `tls` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates offered; the first is the default.
    pub certificates: Vec<CertificatePair>,
    /// Authorities that client certificates are checked against.
    pub ca_file: Option<String>,
    /// Clients must show a valid certificate.
    pub verify: bool,
    /// The certificate also says which user it is.
    pub verify_and_map: bool,
    /// Longest time for the handshake.
    pub timeout_ns: u64,
    /// Who speaks first.
    pub handshake: HandshakeMode,
    /// Most handshakes per second; 0 means no limit.
    pub connection_rate_limit: u64,
    /// Lower-case hex SHA-256 of accepted public keys; empty accepts all.
    pub pinned_certs: Vec<String>,
    /// Names of TLS 1.2 suites; empty means the default.
    pub cipher_suites: Vec<String>,
    /// Names of curves; empty means the default.
    pub curve_preferences: Vec<String>,
    /// Oldest protocol version.
    pub min_version: TlsVersion,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            ca_file: None,
            verify: false,
            verify_and_map: false,
            timeout_ns: TIMEOUT_NS,
            handshake: HandshakeMode::InfoFirst,
            connection_rate_limit: 0,
            pinned_certs: Vec::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: TlsVersion::V12,
        }
    }
}
