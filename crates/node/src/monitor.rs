//! Monitoring answers as functions of the node's state: path and query in, status and body out.
//! HTTP itself is the host's business. Source: spec core/12 (the reference's monitoring endpoints).

mod connz;
mod healthz;
mod jsz;
mod others;
mod query;
mod varz;

use millrace_clock::Now;
use millrace_core::ConnectionKind;
use serde_json::Value;

use crate::node::Node;
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
        *self.http_requests.entry(path.to_owned()).or_default() += u64::from(KNOWN.contains(&path));
        let query = Query::parse(query);
        if !KNOWN.contains(&path) {
            self.http_requests.remove(path);
        }
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
            "/" => Ok(index()),
            _ => return None,
        };
        Some(answer.unwrap_or_else(|refusal| refusal))
    }
}

/// Paths that are counted in `http_req_stats`.
const KNOWN: [&str; 12] = [
    "/",
    "/varz",
    "/healthz",
    "/jsz",
    "/connz",
    "/subsz",
    "/subscriptionsz",
    "/routez",
    "/gatewayz",
    "/leafz",
    "/accountz",
    "/accstatz",
];

fn index() -> MonitorAnswer {
    let links: String = KNOWN[1..]
        .iter()
        .map(|path| format!("<li><a href=\".{path}\">{}</a></li>\n", &path[1..]))
        .collect();
    MonitorAnswer {
        status: 200,
        content_type: "text/html; charset=utf-8",
        body: format!(
            "<!doctype html>\n<title>Millrace</title>\n<h1>Millrace</h1>\n<ul>\n{links}</ul>\n"
        )
        .into_bytes(),
    }
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
