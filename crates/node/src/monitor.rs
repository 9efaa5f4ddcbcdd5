//! Monitoring answers as functions of the node's state: path and query in, status and body out.
//! HTTP itself is the host's business. Source: spec core/12 (the reference's monitoring endpoints).

mod account_detail;
mod connz;
mod exposition;
mod healthz;
mod internals;
mod jsz;
mod metrics;
mod others;
mod query;
mod subsz;
mod varz;

use millrace_clock::Now;
use millrace_core::ConnectionKind;
use serde_json::Value;

use crate::node::Node;
use internals::{raftz, variables};
pub use metrics::{LatencyHistogram, SYNC_BOUNDS_NS};
pub(crate) use query::Query;

/// What only the host knows and monitoring shows.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Processor use of the server in percent of one core.
    pub cpu_percent: f64,
    /// Cores of the machine.
    pub cores: usize,
    /// Port of the monitoring listener; 0 when off.
    pub http_port: u16,
    /// Port of the HTTPS monitoring listener; 0 when off.
    pub https_port: u16,
    /// Processor time used since the start, in nanoseconds.
    pub processor_ns: u64,
    /// How long syncs of the journal took.
    pub sync_times: LatencyHistogram,
    /// New clients are let in now.
    pub accepts_clients: bool,
    /// Clients are, or once were, let in.
    pub was_open: bool,
    /// How the server was called.
    pub command_line: Vec<String>,
}

/// An answer: HTTP status, content type and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl MonitorAnswer {
    fn json(value: &Value) -> Self {
        let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
        body.shrink_to_fit();
        Self {
            status: 200,
            content_type: "application/json",
            body,
        }
    }

    fn compact(status: u16, value: &Value) -> Self {
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self {
            status,
            content_type: "application/json",
            body,
        }
    }

    fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: text.as_bytes().to_vec(),
        }
    }
}

impl Node {
    /// Answers a monitoring request. `path` is without the configured base path, `query` without
    /// its question mark.
    pub fn monitor(
        &mut self,
        now: Now,
        facts: &HostFacts,
        path: &str,
        query: &str,
    ) -> MonitorAnswer {
        if is_known(path) {
            // A fixed set of names: what is asked for beside it leaves nothing behind.
            *self.http_requests.entry(path.to_owned()).or_default() += 1;
        }
        let query = Query::parse(query);
        self.show(now, facts, path, &query)
            .unwrap_or_else(|| MonitorAnswer::text(404, "404 page not found\n"))
    }

    /// What an endpoint shows; `None` if there is no such endpoint.
    pub(crate) fn show(
        &self,
        now: Now,
        facts: &HostFacts,
        path: &str,
        query: &Query,
    ) -> Option<MonitorAnswer> {
        let answer = match path {
            "/varz" => Ok(self.varz(now, facts)),
            "/healthz" => self.healthz(query),
            "/jsz" => self.jsz(now, query),
            "/connz" => self.connz(now, query),
            "/subsz" | "/subscriptionsz" => self.subsz(now, query),
            "/routez" => Ok(self.routez(now)),
            "/gatewayz" => Ok(self.gatewayz(now)),
            "/leafz" => Ok(self.leafz(now)),
            "/accountz" => self.accountz(now, query),
            "/accstatz" => self.accstatz(now, query),
            "/raftz" => Ok(raftz()),
            "/ipqueuesz" => self.ipqueuesz(query),
            "/debug/vars" => Ok(variables(facts)),
            "/metrics" => Ok(self.metrics(now, facts)),
            "/explainz" => self.explainz(now, query),
            "/healthz/startup" => Ok(self.healthz_startup(facts)),
            "/healthz/ready" => Ok(self.healthz_ready(facts)),
            "/healthz/live" => Ok(healthz::live()),
            "/" => Ok(self.index()),
            _ => return None,
        };
        Some(answer.unwrap_or_else(|refusal| refusal))
    }
}

/// Endpoints: they are counted in `http_req_stats`, and the index names those with a title.
const ENDPOINTS: [(&str, &str); 22] = [
    ("/", ""),
    ("/varz", "General"),
    ("/jsz", "JetStream"),
    ("/connz", "Connections"),
    ("/accountz", "Accounts"),
    ("/accstatz", "Account Stats"),
    ("/subsz", "Subscriptions"),
    ("/subscriptionsz", ""),
    ("/routez", "Routes"),
    ("/leafz", "LeafNodes"),
    ("/gatewayz", "Gateways"),
    ("/raftz", "Raft Groups"),
    ("/ipqueuesz", "Internal Queues"),
    ("/healthz", "Health Probe"),
    ("/healthz/startup", ""),
    ("/healthz/ready", ""),
    ("/healthz/live", ""),
    ("/metrics", "Metrics for Prometheus"),
    ("/explainz", ""),
    ("/debug/vars", ""),
    // These two are answered by the host, which alone knows threads.
    ("/stacksz", ""),
    ("/dashboard", ""),
];

fn is_known(path: &str) -> bool {
    ENDPOINTS.iter().any(|(known, _)| *known == path)
}

impl Node {
    /// A page of links, each relative to the page: a proxy may serve it under another path.
    fn index(&self) -> MonitorAnswer {
        let monitor = &self.options.monitor;
        // The page stands at the base path itself, without a slash at its end.
        let base = monitor.base_path.trim_matches('/');
        let base = base.rsplit('/').next().unwrap_or_default();
        let base = if base.is_empty() {
            String::new()
        } else {
            format!("{}/", escaped(base))
        };
        let link = |path: &str, title: &str| {
            let path = path.trim_start_matches('/');
            format!("<li><a href=\"./{base}{path}\">{title}</a> <small>/{path}</small></li>\n")
        };
        let dashboard = monitor.dashboard.then(|| link("/dashboard", "Dashboard"));
        let shown = ENDPOINTS.iter().filter(|(_, title)| !title.is_empty());
        let links: String = shown.map(|(path, title)| link(path, title)).collect();
        let version = millrace_core::MILLRACE_VERSION;
        let name = escaped(&self.broker.identity().server_name);
        let body = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>Millrace: {name}</title>\n<style>{INDEX_STYLE}</style>\n\
             <h1>Millrace {version}</h1>\n<p>{name}</p>\n<ul>\n{}{links}</ul>\n</html>\n",
            dashboard.unwrap_or_default()
        );
        MonitorAnswer {
            status: 200,
            content_type: "text/html; charset=utf-8",
            body: body.into_bytes(),
        }
    }
}

const INDEX_STYLE: &str = ":root{color-scheme:light dark}body{font:17px/1.7 system-ui,sans-serif;\
    margin:2rem;max-width:40rem}ul{list-style:none;padding:0}a{text-decoration:none}\
    a:hover{text-decoration:underline}small{opacity:.55;font-family:monospace}";

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Time since `started` as the reference writes it: `1y2d3h4m5s` without leading zero units.
fn uptime_text(now: Now, started: Now) -> String {
    const UNITS: [(u64, &str); 5] = [
        (31_536_000, "y"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let mut seconds = now.monotonic_ns.saturating_sub(started.monotonic_ns) / Now::SECOND_NS;
    let mut text = String::new();
    for (length, unit) in UNITS {
        let count = seconds / length;
        seconds %= length;
        if count > 0 || !text.is_empty() || unit == "s" {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    text
}

/// What monitoring and events call the way a client speaks.
pub(crate) const fn client_type(kind: ConnectionKind) -> &'static str {
    match kind {
        ConnectionKind::Client | ConnectionKind::InProcess => "nats",
        ConnectionKind::Websocket => "websocket",
    }
}

pub(crate) fn time_text(wall_ns: i64) -> String {
    millrace_clock::rfc3339::format(wall_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_drops_leading_zero_units_only() {
        let at = |seconds: u64| Now {
            monotonic_ns: seconds * Now::SECOND_NS,
            wall_ns: 0,
        };
        assert_eq!(uptime_text(at(5), at(0)), "5s");
        assert_eq!(uptime_text(at(3600), at(0)), "1h0m0s");
        assert_eq!(uptime_text(at(90_061), at(0)), "1d1h1m1s");
    }
}
