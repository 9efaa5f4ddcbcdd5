//! The pid file and the ports file (spec core/05 §5.4).

use serde::Serialize;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Writes the process id, without a line end. The file stays when the server exits.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write_pid(path: &str) -> io::Result<()> {
    std::fs::write(path, std::process::id().to_string())
}

/// Where the server listens, as URLs.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) nats: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) monitoring: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) websocket: Vec<String>,
}

/// The ports file; removed when dropped.
#[derive(Debug)]
pub(crate) struct PortsFile {
    path: PathBuf,
}

/// What goes into the ports file, wherever that is.
#[derive(Debug)]
pub(crate) struct PortsWriter {
    /// Name of the executable.
    pub(crate) program: String,
    pub(crate) ports: Ports,
}

impl PortsWriter {
    /// Writes the file into `folder`; without one there is none.
    ///
    /// # Errors
    /// The folder is not writable.
    pub(crate) fn write(&self, folder: Option<&String>) -> io::Result<Option<PortsFile>> {
        folder
            .map(|folder| PortsFile::write(folder, &self.program, &self.ports))
            .transpose()
    }
}

impl PortsFile {
    /// Writes `<folder>/<program>_<pid>.ports` in one step, so that a reader never sees a part.
    fn write(folder: &str, program: &str, ports: &Ports) -> io::Result<Self> {
        let name = format!("{program}_{}.ports", std::process::id());
        let path = Path::new(folder).join(&name);
        let scratch = Path::new(folder).join(format!(".{name}.tmp"));
        std::fs::write(&scratch, millrace_wire::json::to_vec(ports))?;
        std::fs::rename(&scratch, &path)?;
        Ok(Self { path })
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// URLs under which a listener can be reached: one per address if it listens on all of them.
pub(crate) fn urls(scheme: &str, bound: SocketAddr) -> Vec<String> {
    let url = |ip: IpAddr| format!("{scheme}://{}", SocketAddr::new(ip, bound.port()));
    if !bound.ip().is_unspecified() {
        return vec![url(bound.ip())];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        // Link-local addresses need a zone, which a URL cannot carry.
        IpAddr::V6(six) => bound.is_ipv6() && !six.is_unicast_link_local(),
    };
    let urls: Vec<String> = interfaces
        .iter()
        .map(|interface| interface.ip())
        .filter(usable)
        .map(url)
        .collect();
    if urls.is_empty() {
        vec![url(bound.ip())]
    } else {
        urls
    }
}
