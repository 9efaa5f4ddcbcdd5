//! Everything between options and the first turn of the event loop, in the order in which the log
//! tells it: banner, monitoring, JetStream, the client port.

use crate::clock::Clock;
use crate::disk::DiskLanes;
use crate::event_loop::{Listener, Parts, Waiting};
use crate::files::{self, Ports, PortsWriter};
use crate::identity;
use crate::limits::READY_WAIT_NS;
use crate::logger::{Level, Logger};
use crate::machine;
use crate::monitor;
use crate::passwords::PasswordPool;
use crate::run::{Reload, RunContext};
use crate::signals;
use crate::store_folder::{StoreFolder, default_directory};
use crate::store_keys;
use crate::tls;
use crate::websocket::{Door, Terms};
use millrace_auth::ServerKeys;
use millrace_config::Options;
use millrace_config::options::{DEFAULT_HOST, HandshakeMode, SyncInterval};
use millrace_core::{BrokerSettings, COMPATIBLE_VERSION, MILLRACE_VERSION, ServerIdentity};
use millrace_node::{HostFacts, JetStreamHostSettings, Node, NodeSettings};
use millrace_store::seal::KeyChange;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The API level of JetStream, as the banner shows it.
const API_LEVEL: u32 = 5;

/// A server ready to run but for its log, which the caller still uses.
pub(crate) struct Starting {
    waiting: Waiting,
    clock: Clock,
    node: Node,
    listener: mio::net::TcpListener,
    listening_text: String,
    tls: Option<Arc<rustls::ServerConfig>>,
    websocket: Option<Door>,
    monitoring_tls: Option<watch::Sender<Arc<rustls::ServerConfig>>>,
    disk: Option<DiskLanes>,
    store: Option<StoreFolder>,
    passwords: PasswordPool,
    reload: Option<Reload>,
    facts: HostFacts,
    ports: PortsWriter,
}

impl Starting {
    pub(crate) fn with_logger(self, logger: Logger) -> Parts {
        let starting_until_ns = self.clock.now().after_ns(READY_WAIT_NS);
        Parts {
            waiting: self.waiting,
            clock: self.clock,
            node: self.node,
            logger,
            listener: self.listener,
            listening_text: self.listening_text,
            tls: self.tls,
            websocket: self.websocket,
            monitoring_tls: self.monitoring_tls,
            disk: self.disk,
            store: self.store,
            passwords: self.passwords,
            reload: self.reload,
            facts: self.facts,
            ports: self.ports,
            starting_until_ns,
        }
    }
}

/// Prepares a server. An error is the text of the last line of its log.
pub(crate) fn start(
    mut options: Options,
    context: RunContext,
    logger: &mut Logger,
) -> Result<Starting, String> {
    let clock = Clock::start();
    machine::raise_file_limit();
    let waiting = Waiting::new().map_err(|error| format!("no poll from the system: {error}"))?;
    signals::watch(waiting.inputs.clone()).map_err(|error| format!("no signals: {error}"))?;
    let keys = ServerKeys::new(identity::entropy()?, identity::entropy()?);
    let server_id = keys.server_id();
    let server_name = options.server_name.clone();
    let server_name = server_name.unwrap_or_else(|| server_id.clone());
    let warnings = &context.warnings;
    banner(logger, &options, &server_name, &server_id, warnings);
    let tls = options.tls.as_ref().map(tls::server_config).transpose()?;
    let listener = bind_clients(&options)?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let websocket = open_websocket(&options)?;
    let (monitoring_tls, tls_seen) = monitoring_tls(&options)?.unzip();
    let service = monitor::Service::new(&options.monitor, tls_seen, waiting.inputs.clone());
    let (monitoring, facts) = start_monitoring(&options, service, logger)?;
    let bound = Bound {
        clients: bound,
        monitoring,
        websocket: websocket.as_ref().map(|(_, bound)| *bound),
    };
    let (store, jetstream) = open_store(&mut options, logger)?;
    let disk = store
        .as_ref()
        .map(|store| DiskLanes::start(&store.path, &waiting.inputs))
        .transpose()
        .map_err(|error| format!("no disk threads: {error}"))?;
    let passwords = PasswordPool::start(&waiting.inputs)
        .map_err(|error| format!("no threads for passwords: {error}"))?;
    let identity = server_identity(&options, keys, server_name, bound)?;
    let options = Arc::new(options);
    let wake_inputs = waiting.inputs.clone();
    let settings = NodeSettings {
        broker: BrokerSettings {
            options: Arc::clone(&options),
            identity,
            random_seed: u64::from_le_bytes(identity::entropy()?),
        },
        jetstream,
        wake: Some(Arc::new(move || wake_inputs.wake())),
    };
    let node = Node::new(clock.now(), settings);
    write_pid(&options)?;
    tell_about_tls(logger, &options);
    Ok(Starting {
        waiting,
        clock,
        node,
        listener,
        listening_text: format!(
            "Listening for client connections on {}",
            shown(&options, bound.clients)
        ),
        tls,
        websocket: websocket.map(|(door, _)| door),
        monitoring_tls,
        disk,
        store,
        passwords,
        reload: context.reload,
        facts,
        ports: ports_writer(&options, context.program, bound),
    })
}

fn write_pid(options: &Options) -> Result<(), String> {
    let Some(path) = &options.pid_file else {
        return Ok(());
    };
    files::write_pid(path).map_err(|error| format!("Could not write pidfile: {error}"))
}

/// Where the listeners are.
#[derive(Clone, Copy)]
struct Bound {
    clients: SocketAddr,
    monitoring: Option<SocketAddr>,
    websocket: Option<SocketAddr>,
}

fn banner(logger: &mut Logger, options: &Options, name: &str, id: &str, warnings: &[String]) {
    logger.info("Starting nats-server");
    logger.info(&format!("  Version:  {COMPATIBLE_VERSION}"));
    logger.info(&format!("  Millrace: {MILLRACE_VERSION}"));
    logger.info("  Git:      [not set]");
    logger.info(&format!("  Name:     {name}"));
    logger.info(&format!("  ID:       {id}"));
    if let Some(file) = &options.config_file {
        logger.info(&format!(
            "Using configuration file: {file} ({})",
            options.config_digest
        ));
    }
    for warning in warnings {
        logger.line(Level::Warning, warning);
    }
    for line in options.inactive.lines().iter().chain(&options.flag_lines()) {
        logger.line(Level::Warning, line);
    }
}

fn tell_about_tls(logger: &mut Logger, options: &Options) {
    let Some(tls) = &options.tls else {
        return;
    };
    let word = if options.allow_non_tls {
        "available"
    } else {
        "required"
    };
    logger.info(&format!("TLS {word} for client connections"));
    if tls.handshake == HandshakeMode::HandshakeFirst {
        logger.line(
            Level::Warning,
            "Clients that are not using \"TLS Handshake First\" option will fail to connect",
        );
    }
}

/// The address of `host`, IPv4 first where a name has both.
fn resolve(host: &str, port: i32) -> Result<SocketAddr, String> {
    let port = match port {
        -1 => 0,
        port => u16::try_from(port).map_err(|_| format!("invalid port {port}"))?,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let mut addresses: Vec<SocketAddr> = (host, port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve host {host:?}: {error}"))?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| format!("host {host:?} has no address"))
}

fn bind_clients(options: &Options) -> Result<mio::net::TcpListener, String> {
    let client = &options.client;
    let address = resolve(&client.host, client.port)?;
    mio::net::TcpListener::bind(address).map_err(|error| {
        format!(
            "Error listening on port: {address}, {:?}",
            error.to_string()
        )
    })
}

/// Host as configured and port as bound.
fn shown(options: &Options, bound: SocketAddr) -> String {
    let host = options
        .client
        .host
        .trim_start_matches('[')
        .trim_end_matches(']');
    if host.contains(':') {
        format!("[{host}]:{}", bound.port())
    } else {
        format!("{host}:{}", bound.port())
    }
}

const fn monitoring_scheme(options: &Options) -> &'static str {
    if options.monitor.https_port == 0 {
        "http"
    } else {
        "https"
    }
}

type MonitoringTls = (
    watch::Sender<Arc<rustls::ServerConfig>>,
    watch::Receiver<Arc<rustls::ServerConfig>>,
);

/// What monitoring over HTTPS begins with, and how it hears of a reload.
fn monitoring_tls(options: &Options) -> Result<Option<MonitoringTls>, String> {
    if options.monitor.https_port == 0 {
        return Ok(None);
    }
    let config = tls::monitoring_config(options)?;
    Ok(config.map(watch::channel))
}

fn start_monitoring(
    options: &Options,
    service: monitor::Service,
    logger: &mut Logger,
) -> Result<(Option<SocketAddr>, HostFacts), String> {
    let mut facts = HostFacts {
        cores: machine::cores(),
        command_line: std::env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect(),
        ..HostFacts::default()
    };
    let monitor = &options.monitor;
    let scheme = monitoring_scheme(options);
    let port = match scheme {
        "http" => monitor.http_port,
        _ => monitor.https_port,
    };
    if port == 0 {
        return Ok((None, facts));
    }
    let host = if monitor.host.is_empty() {
        &options.client.host
    } else {
        &monitor.host
    };
    let address = resolve(host, port)?;
    let fail = |error: std::io::Error| format!("Can't listen to the monitor port: {error}");
    let listener = std::net::TcpListener::bind(address).map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    monitor::start(listener, service).map_err(fail)?;
    match scheme {
        "http" => facts.http_port = bound.port(),
        _ => facts.https_port = bound.port(),
    }
    let text = format!("Starting {scheme} monitor on {host}:{}", bound.port());
    logger.info(&text);
    Ok((Some(bound), facts))
}

type Store = (Option<StoreFolder>, Option<JetStreamHostSettings>);

fn open_store(options: &mut Options, logger: &mut Logger) -> Result<Store, String> {
    if !options.jetstream.enabled {
        return Ok((None, None));
    }
    logger.info("Starting JetStream");
    let directory = options
        .jetstream
        .store_dir
        .as_ref()
        .filter(|directory| !directory.is_empty())
        .map_or_else(default_directory, PathBuf::from);
    let store = StoreFolder::open(&directory).map_err(|error| error.to_string())?;
    let (keys, change) = store_keys::open(&store.path, &options.jetstream, true)?;
    let max_memory = options
        .jetstream
        .max_memory
        .unwrap_or_else(machine::default_max_memory);
    let max_file = options
        .jetstream
        .max_file
        .unwrap_or_else(|| machine::default_max_file(&store.path));
    options.jetstream.max_memory = Some(max_memory);
    options.jetstream.max_file = Some(max_file);
    let durable = match options.jetstream.sync_interval {
        SyncInterval::Unset | SyncInterval::Always => {
            "before every acknowledgement (sync_interval: always)".to_owned()
        }
        SyncInterval::Interval { interval_ns } => format!(
            "at the latest {} after an acknowledgement (sync_interval)",
            millrace_clock::go_duration::format(i64::try_from(interval_ns).unwrap_or(i64::MAX))
        ),
    };
    let shown = store.path.display().to_string();
    logger.info("---------------- JETSTREAM ----------------");
    logger.info(&format!("  Strict:          {}", options.jetstream.strict));
    logger.info(&format!(
        "  Max Memory:      {}",
        millrace_config::size_text(max_memory)
    ));
    logger.info(&format!(
        "  Max Storage:     {}",
        millrace_config::size_text(max_file)
    ));
    logger.info(&format!("  Store Directory: \"{shown}\""));
    if let Some(cipher) = keys.cipher() {
        logger.info(&format!("  Encryption:      {}", cipher.title()));
    }
    logger.info(&format!("  Synced to disk:  {durable}"));
    logger.info(&format!("  API Level:       {API_LEVEL}"));
    logger.info("-------------------------------------------");
    if let Some(text) = told_of_keys(change) {
        logger.info(text);
    }
    let settings = JetStreamHostSettings {
        store_dir: shown,
        max_memory_bytes: max_memory,
        max_file_bytes: max_file,
        local_time_zone: machine::time_zone_name(),
        keys,
    };
    Ok((Some(store), Some(settings)))
}

/// What happened to the store's keys.
const fn told_of_keys(change: KeyChange) -> Option<&'static str> {
    match change {
        KeyChange::None => None,
        KeyChange::Made => Some("The store is encrypted from now on"),
        KeyChange::Rotated => Some(
            "The store's keys were sealed under the previous key and are sealed under the new one now",
        ),
        KeyChange::Cipher => {
            Some("Data is encrypted with another cipher from now on, older data bit by bit")
        }
    }
}

fn server_identity(
    options: &Options,
    keys: ServerKeys,
    server_name: String,
    bound: Bound,
) -> Result<ServerIdentity, String> {
    let client = &options.client;
    // What is advertised instead is an option that a reload may change.
    let (host, port) = advertised(&client.host, bound.clients.port(), None);
    let block = &options.websocket;
    let websocket = bound
        .websocket
        .map(|bound| advertised(&block.host, bound.port(), block.advertise.as_ref()));
    Ok(ServerIdentity {
        server_id: keys.server_id(),
        server_name,
        git_commit: String::new(),
        host,
        port,
        websocket,
        nonce_seed: identity::entropy()?,
        jetstream: options.jetstream.enabled,
        domain: options.jetstream.domain.clone().unwrap_or_default(),
        cluster: String::new(),
        xkey: keys.curve_id(),
        keys,
    })
}

/// The place that is told to clients: what is advertised, its port optional, or the listener.
fn advertised(host: &str, port: u16, advertise: Option<&String>) -> (String, u16) {
    let host = if host.is_empty() { DEFAULT_HOST } else { host };
    let Some(advertise) = advertise else {
        return (host.to_owned(), port);
    };
    match advertise
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse()))
    {
        Some((name, Ok(number))) => (name.to_owned(), number),
        _ => (advertise.clone(), port),
    }
}

/// The door of WebSocket clients, and where it is.
fn open_websocket(options: &Options) -> Result<Option<(Door, SocketAddr)>, String> {
    let Some(terms) = Terms::new(options)? else {
        return Ok(None);
    };
    let block = &options.websocket;
    let address = resolve(&block.host, block.port)?;
    let fail =
        |error: std::io::Error| format!("Unable to listen for websocket connections: {error}");
    let socket = mio::net::TcpListener::bind(address).map_err(fail)?;
    let bound = socket.local_addr().map_err(fail)?;
    let scheme = if terms.tls.is_some() { "wss" } else { "ws" };
    let host = if block.host.is_empty() {
        DEFAULT_HOST
    } else {
        &block.host
    };
    let door = Door {
        listener: Some(Listener::new(socket)),
        terms,
        listening_text: format!(
            "Listening for websocket clients on {scheme}://{host}:{}",
            bound.port()
        ),
    };
    Ok(Some((door, bound)))
}

fn ports_writer(options: &Options, program: String, bound: Bound) -> PortsWriter {
    let scheme = if options.tls.is_some() { "tls" } else { "nats" };
    let monitoring = bound.monitoring.map(|bound| {
        let scheme = monitoring_scheme(options);
        files::urls(scheme, bound)
    });
    let websocket = bound.websocket.map(|bound| {
        let scheme = if options.websocket.tls.is_some() {
            "wss"
        } else {
            "ws"
        };
        files::urls(scheme, bound)
    });
    let ports = Ports {
        websocket: websocket.unwrap_or_default(),
        nats: files::urls(scheme, bound.clients),
        monitoring: monitoring.unwrap_or_default(),
    };
    PortsWriter { program, ports }
}
