//! TLS on client connections: the server's settings from the configuration, and one session as
//! bytes in, bytes out. When a handshake begins is the broker's decision.

use millrace_config::options::{TlsOptions, TlsVersion};
use millrace_core::TlsFacts;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

/// Builds the settings that all sessions share. Reads the certificate files.
///
/// # Errors
/// A text for the operator: which file is missing or unusable.
pub(crate) fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match options.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("tls: {error}"))?;
    let builder = if options.verify || options.verify_and_map {
        let roots = match &options.ca_file {
            Some(file) => authorities(file)?,
            None => return Err("tls: verify needs a ca_file".to_owned()),
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("tls: client certificates cannot be verified: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let pair = options
        .certificates
        .first()
        .ok_or("tls: no certificate is configured")?;
    let chain = certificates(&pair.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(&pair.key_file)
        .map_err(|error| format!("error reading private key {:?}: {error}", pair.key_file))?;
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("error parsing X509 certificate/key pair: {error}"))?;
    Ok(Arc::new(config))
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |error| format!("error reading certificates {file:?}: {error}");
    CertificateDer::pem_file_iter(file)
        .map_err(bad)?
        .collect::<Result<_, _>>()
        .map_err(bad)
}

fn authorities(file: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| format!("error in ca_file {file:?}: {error}"))?;
    }
    Ok(roots)
}

/// One connection's TLS.
#[derive(Debug)]
pub(crate) struct Session {
    connection: ServerConnection,
    established: bool,
}

impl Session {
    /// A session that waits for the client's first message.
    ///
    /// # Errors
    /// The settings do not allow any session.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: ServerConnection::new(config)?,
            established: false,
        })
    }

    /// Takes bytes from the socket and appends what they decrypt to.
    ///
    /// # Errors
    /// The peer broke the protocol; an alert for it may wait to be written.
    pub(crate) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.connection.read_tls(&mut bytes)? == 0 {
                break;
            }
            let state = self
                .connection
                .process_new_packets()
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[at..])?;
        }
        Ok(())
    }

    /// The facts about the session, once, when its handshake is done.
    pub(crate) fn newly_established(&mut self) -> Option<TlsFacts> {
        if self.established || self.connection.is_handshaking() {
            return None;
        }
        self.established = true;
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        };
        let suite = self.connection.negotiated_cipher_suite();
        let peers = self.connection.peer_certificates().unwrap_or_default();
        Some(TlsFacts {
            version: version.to_owned(),
            cipher_suite: suite.map_or_else(String::new, suite_name),
            peer_certificates: peers
                .iter()
                .map(|certificate| bytes::Bytes::copy_from_slice(certificate))
                .collect(),
            // Mapping certificates to users is not available yet.
            identities: Vec::new(),
        })
    }

    /// Whether the handshake is done.
    pub(crate) const fn is_established(&self) -> bool {
        self.established
    }

    /// Encrypts `plain`; what it becomes waits for [`Self::write_to`].
    pub(crate) fn send(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.connection.writer().write(plain)
    }

    /// Announces the end of what is sent.
    pub(crate) fn send_close(&mut self) {
        self.connection.send_close_notify();
    }

    /// Whether encrypted bytes wait.
    pub(crate) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Writes some of what waits.
    ///
    /// # Errors
    /// As the socket.
    pub(crate) fn write_to(&mut self, socket: &mut impl io::Write) -> io::Result<usize> {
        self.connection.write_tls(socket)
    }
}

/// The IANA name of a suite.
fn suite_name(suite: rustls::SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    // TLS 1.3 suites carry the version in the name used here, but not in the registry's.
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}
