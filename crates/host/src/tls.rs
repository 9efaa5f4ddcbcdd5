//! TLS on client connections: the server's settings from the configuration, and one session as
//! bytes in, bytes out. When a handshake begins is the broker's decision.

use crate::certificate;
use millrace_config::Options;
use millrace_config::options::{TlsOptions, TlsVersion};
use millrace_core::TlsFacts;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, RootCertStore, ServerConfig, ServerConnection};
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

/// Builds the settings that all sessions share. Reads the certificate files.
///
/// # Errors
/// A text for the operator: which file is missing or unusable.
pub(crate) fn server_config(options: &TlsOptions) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(provider(options)?);
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
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| format!("tls: client certificates cannot be verified: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut pairs = Vec::new();
    for pair in &options.certificates {
        let chain = certificates(&pair.cert_file)?;
        let key = PrivateKeyDer::from_pem_file(&pair.key_file)
            .map_err(|error| format!("error reading private key {:?}: {error}", pair.key_file))?;
        let names = chain
            .first()
            .map(|leaf| certificate::host_names(leaf))
            .unwrap_or_default();
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| format!("error parsing X509 certificate/key pair: {error}"))?;
        pairs.push(Pair {
            names,
            key: Arc::new(key),
        });
    }
    if pairs.is_empty() {
        return Err("tls: no certificate is configured".to_owned());
    }
    Ok(Arc::new(builder.with_cert_resolver(Arc::new(Pairs(pairs)))))
}

/// Settings of monitoring over HTTPS: the clients' certificate, and nobody is asked for theirs.
/// `None` without TLS.
///
/// # Errors
/// As [`server_config`].
pub(crate) fn monitoring_config(options: &Options) -> Result<Option<Arc<ServerConfig>>, String> {
    let Some(tls) = &options.tls else {
        return Ok(None);
    };
    let open = TlsOptions {
        verify: false,
        verify_and_map: false,
        ..tls.clone()
    };
    server_config(&open).map(Some)
}

/// The cryptography, narrowed to the suites and curves that the configuration names. Suites of TLS
/// 1.3 are not a matter of configuration, as in the reference.
fn provider(options: &TlsOptions) -> Result<CryptoProvider, String> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !options.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| {
            let name = suite_name(*suite);
            // Two spellings are in use for the ChaCha suites.
            let wanted = |wanted: &String| *wanted == name || format!("{wanted}_SHA256") == name;
            suite.tls13().is_some() || options.cipher_suites.iter().any(wanted)
        });
    }
    if !options.curve_preferences.is_empty() {
        let available = rustls::crypto::aws_lc_rs::ALL_KX_GROUPS;
        provider.kx_groups = options
            .curve_preferences
            .iter()
            .filter_map(|name| {
                let wanted = curve(name)?;
                available
                    .iter()
                    .find(|group| group.name() == wanted)
                    .copied()
            })
            .collect();
        if provider.kx_groups.is_empty() {
            return Err("tls: none of the curve_preferences is available".to_owned());
        }
    }
    Ok(provider)
}

/// A curve by the name it has in the configuration.
fn curve(name: &str) -> Option<NamedGroup> {
    Some(match name {
        "CurveP256" => NamedGroup::secp256r1,
        "CurveP384" => NamedGroup::secp384r1,
        "X25519" => NamedGroup::X25519,
        "X25519MLKEM768" => NamedGroup::X25519MLKEM768,
        "SecP256r1MLKEM768" => NamedGroup::secp256r1MLKEM768,
        _ => return None,
    })
}

/// One certificate of ours and the host names in it.
#[derive(Debug)]
struct Pair {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

/// All certificates; never empty. The first one suits clients that suit none.
#[derive(Debug)]
struct Pairs(Vec<Pair>);

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let can_sign = |pair: &&Pair| {
            pair.key
                .key
                .choose_scheme(hello.signature_schemes())
                .is_some()
        };
        let wanted = hello.server_name().map(str::to_ascii_lowercase);
        let named = |pair: &&Pair| {
            wanted.as_ref().is_some_and(|wanted| {
                pair.names.iter().any(|name| match name.strip_prefix("*.") {
                    Some(domain) => wanted
                        .split_once('.')
                        .is_some_and(|(_, rest)| rest == domain),
                    None => name == wanted,
                })
            })
        };
        let usable = || self.0.iter().filter(can_sign);
        let chosen = usable()
            .find(named)
            .or_else(|| usable().next())
            .or_else(|| self.0.first());
        chosen.map(|pair| Arc::clone(&pair.key))
    }
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
    peer_closed: bool,
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
            peer_closed: false,
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
            self.peer_closed |= state.peer_has_closed();
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut plain[at..])?;
        }
        Ok(())
    }

    /// The facts about the session, once, when its handshake is done.
    ///
    /// # Errors
    /// The peer's key is not one of those the configuration pins; a text for the log.
    pub(crate) fn newly_established(
        &mut self,
        options: &TlsOptions,
    ) -> Result<Option<TlsFacts>, String> {
        if self.established || self.connection.is_handshaking() {
            return Ok(None);
        }
        self.check_pins(options)?;
        let peers = self.connection.peer_certificates().unwrap_or_default();
        let identities = match peers.first() {
            Some(leaf) if options.verify_and_map => certificate::identities(leaf),
            _ => Vec::new(),
        };
        self.established = true;
        let version = match self.connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
            _ => "",
        };
        let suite = self.connection.negotiated_cipher_suite();
        Ok(Some(TlsFacts {
            version: version.to_owned(),
            cipher_suite: suite.map_or_else(String::new, suite_name),
            peer_certificates: peers
                .iter()
                .map(|certificate| bytes::Bytes::copy_from_slice(certificate))
                .collect(),
            identities,
        }))
    }

    /// Whether the peer's key is one of those that are accepted.
    ///
    /// # Errors
    /// It is not; a text for the log.
    pub(crate) fn check_pins(&self, options: &TlsOptions) -> Result<(), String> {
        if options.pinned_certs.is_empty() {
            return Ok(());
        }
        let peers = self.connection.peer_certificates().unwrap_or_default();
        let hash = peers.first().and_then(|leaf| certificate::key_hash(leaf));
        match hash {
            Some(hash) if options.pinned_certs.contains(&hash) => Ok(()),
            Some(hash) => Err(format!("certificate not pinned: {hash}")),
            None => Err("no certificate to compare with pinned_certs".to_owned()),
        }
    }

    /// Whether the peer said that it sends no more. It may wait for the same from us before it
    /// closes its socket.
    pub(crate) const fn peer_has_closed(&self) -> bool {
        self.peer_closed
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
