//! How long services take: which requests are measured, and what is published about them in the
//! exporter's account (spec core/10 §10.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_clock::{Now, rfc3339};
use millrace_wire::headers;
use serde::Serialize;

use super::responses::{End, Response, ResponseId};
use super::{RequestInfo, ServiceExport, ServiceImport};
use crate::broker::Broker;
use crate::ids::AccountId;

const KIND: &str = "io.nats.server.metric.v1.service_latency";
/// Characters of an event's id.
const ID_CHARACTERS: usize = 22;
/// The whole, in percent.
const WHOLE: u64 = 100;

/// Headers that asked for a measurement, in canonical spelling; empty if chance did.
pub(crate) type SampledHeaders = BTreeMap<String, Vec<String>>;

/// A request whose response time is measured.
#[derive(Debug)]
pub(crate) struct Measured {
    requestor: RequestInfo,
    headers: SampledHeaders,
    started: Now,
}

/// The published event.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    requestor: Option<&'a RequestInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<RequestInfo>,
    #[serde(rename = "header", skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a SampledHeaders,
    start: String,
    #[serde(rename = "service")]
    service_ns: u64,
    #[serde(rename = "system")]
    system_ns: u64,
    #[serde(rename = "total")]
    total_ns: u64,
}

impl Broker {
    /// Whether a request with these headers is measured, and which of them asked for it.
    pub(super) fn sample(
        &mut self,
        export: &ServiceExport,
        block: &[u8],
    ) -> Option<SampledHeaders> {
        let latency = export.latency.as_ref()?;
        let share = u64::from(latency.sampling);
        if share >= WHOLE || (share > 0 && self.random.below(WHOLE) <= share) {
            return Some(SampledHeaders::new());
        }
        asked_by_headers(block)
    }

    pub(super) fn begin_measuring(
        &self,
        now: Now,
        requestor: Option<u32>,
        importer: AccountId,
        share: bool,
        headers: SampledHeaders,
    ) -> Measured {
        Measured {
            requestor: self.request_info(requestor, importer, share),
            headers,
            started: now,
        }
    }

    /// An answer came: tells how long it took.
    pub(super) fn measure_response(&mut self, now: Now, id: ResponseId, responder: Option<u32>) {
        let Some(response) = self.imports.responses.get_mut(id) else {
            return;
        };
        let Some(measured) = response.measured.take() else {
            return;
        };
        let export = Arc::clone(&response.export);
        let responder = self.request_info(responder, export.account, true);
        let taken_ns = now
            .monotonic_ns
            .saturating_sub(measured.started.monotonic_ns);
        let asked_ns = measured.requestor.round_trip_ns;
        let event = Event {
            service_ns: taken_ns.saturating_sub(responder.round_trip_ns),
            total_ns: asked_ns + taken_ns,
            responder: Some(responder),
            ..self.event(now, 200, "", &measured)
        };
        let payload = serde_json::to_vec(&event).unwrap_or_default();
        self.publish_latency(now, &export, &payload);
    }

    /// A measured request ended without an answer.
    pub(super) fn tell_end(&mut self, now: Now, response: &Response, end: End) {
        let Some(measured) = response.measured.as_deref() else {
            return;
        };
        let (status, description) = match end {
            End::Answered => return,
            End::NotDelivered => (503, "Service Unavailable"),
            End::TimedOut => (504, "Service Timeout"),
            End::InterestLost => (408, "Request Timeout"),
        };
        let event = self.event(now, status, description, measured);
        let payload = serde_json::to_vec(&event).unwrap_or_default();
        self.publish_latency(now, &response.export, &payload);
    }

    /// A request without a reply subject was to be measured.
    pub(super) fn tell_bad_request(
        &mut self,
        now: Now,
        import: &ServiceImport,
        requestor: Option<u32>,
        headers: SampledHeaders,
    ) {
        let measured = self.begin_measuring(now, requestor, import.importer, import.share, headers);
        let event = self.event(now, 400, "Bad Request", &measured);
        let payload = serde_json::to_vec(&event).unwrap_or_default();
        let export = Arc::clone(&import.export);
        self.publish_latency(now, &export, &payload);
    }

    fn event<'a>(
        &mut self,
        now: Now,
        status: u16,
        description: &'static str,
        measured: &'a Measured,
    ) -> Event<'a> {
        let asked_ns = i64::try_from(measured.requestor.round_trip_ns).unwrap_or(0);
        Event {
            kind: KIND,
            id: self.random.base62(ID_CHARACTERS),
            timestamp: rfc3339::format(now.wall_ns),
            status,
            description,
            requestor: Some(&measured.requestor),
            responder: None,
            headers: &measured.headers,
            start: rfc3339::format(measured.started.wall_ns.saturating_sub(asked_ns)),
            service_ns: 0,
            system_ns: 0,
            total_ns: 0,
        }
    }

    fn publish_latency(&mut self, now: Now, export: &ServiceExport, payload: &[u8]) {
        if let Some(latency) = &export.latency {
            let subject = latency.subject.as_bytes();
            self.publish(now, export.account, subject, b"", b"", payload);
        }
    }
}

/// Headers of the request that ask for a trace, in the order in which the reference looks.
fn asked_by_headers(block: &[u8]) -> Option<SampledHeaders> {
    const UBER: &str = "Uber-Trace-Id";
    const B3_SAMPLED: &str = "X-B3-Sampled";
    const B3_TRACE: &str = "X-B3-Traceid";
    let all = canonical_headers(block);
    let first = |name: &str| all.get(name)?.first().map(String::as_str);
    let chosen = |wanted: &dyn Fn(&str) -> bool| -> SampledHeaders {
        let chosen = all.iter().filter(|(name, _)| wanted(name));
        chosen
            .map(|(name, values)| (name.clone(), values.clone()))
            .collect()
    };
    let b3 =
        |name: &str| [B3_SAMPLED, B3_TRACE, "X-B3-Parentspanid", "X-B3-Spanid"].contains(&name);
    if let Some(text) = first(UBER) {
        let flags = text
            .split(':')
            .nth(3)
            .filter(|_| text.split(':').count() == 4)?;
        let is_set = flags.len() <= 2 && u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        return is_set.then(|| chosen(&|name| name == UBER || name.starts_with("Uberctx-")));
    }
    match first(B3_SAMPLED) {
        Some("1") => return Some(chosen(&b3)),
        Some("0") => return None,
        _ => {}
    }
    if all.contains_key(B3_TRACE) {
        return Some(chosen(&b3));
    }
    if let Some(text) = first("B3") {
        let parts: Vec<&str> = text.split('-').collect();
        let is_denied = parts.get(2) == Some(&"0") || parts == ["0"];
        return (!is_denied).then(|| chosen(&|name| name == "B3"));
    }
    let parts: Vec<&str> = first("Traceparent")?.split('-').collect();
    let [_, _, _, flags] = parts[..] else {
        return None;
    };
    let is_set = flags.len() == 2 && i8::from_str_radix(flags, 16).ok()? & 1 == 1;
    is_set.then(|| chosen(&|name| name == "Traceparent" || name == "Tracestate"))
}

fn canonical_headers(block: &[u8]) -> SampledHeaders {
    let mut all = SampledHeaders::new();
    for (name, value) in headers::iter(block) {
        let value = String::from_utf8_lossy(value).trim().to_owned();
        all.entry(canonical(name)).or_default().push(value);
    }
    all
}

/// A header's name as HTTP spells it: each word begins with a capital.
pub(crate) fn canonical(name: &[u8]) -> String {
    let mut is_first = true;
    let spelled = name.iter().map(|byte| {
        let upper = std::mem::replace(&mut is_first, *byte == b'-');
        let byte = if upper {
            byte.to_ascii_uppercase()
        } else {
            byte.to_ascii_lowercase()
        };
        char::from(byte)
    });
    spelled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: ACC-13
    #[test]
    fn requests_are_measured_when_their_trace_headers_say_so() {
        let asked = |lines: &str| {
            let block = format!("NATS/1.0\r\n{lines}\r\n\r\n");
            asked_by_headers(block.as_bytes()).map(|found| found.into_keys().collect::<Vec<_>>())
        };
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let uber = "Uber-Trace-Id: 479fefe9525eddb:5adb976bfc1f95c1:479fefe9525eddb:";
        assert_eq!(asked(&format!("{uber}1")), some(&["Uber-Trace-Id"]));
        assert_eq!(asked(&format!("{uber}0")), None);
        assert_eq!(asked("X-B3-Sampled: 1\r\nA: b"), some(&["X-B3-Sampled"]));
        assert_eq!(asked("X-B3-Sampled: 0\r\nX-B3-TraceId: 80"), None);
        assert_eq!(asked("X-B3-TraceId: 80"), some(&["X-B3-Traceid"]));
        assert_eq!(asked("B3: 80-e4-1-05"), some(&["B3"]));
        assert_eq!(asked("B3: 80-e4-0-05"), None);
        let parent = "traceparent: 00-4bf9-00f0-";
        assert_eq!(
            asked(&format!("{parent}01\r\ntracestate: x")),
            some(&["Traceparent", "Tracestate"])
        );
        assert_eq!(asked(&format!("{parent}00")), None);
        assert_eq!(asked("A: b"), None);
    }
}
