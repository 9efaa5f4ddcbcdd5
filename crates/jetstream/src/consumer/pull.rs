//! Pull mode: taking requests in, serving them round robin, ending them with their status
//! (spec jetstream/04 §6).

use bytes::Bytes;
use millrace_clock::go_duration;

use super::deliver::Outgoing;
use super::leader::Leadership;
use super::priority;
use super::request::RequestBody;
use super::settings::{Mode, PullSettings, Settings};
use super::status::{push_heartbeat, status, status_with_unused, with_header};
use super::waiting::Request;
use super::{Consumer, ConsumerContext};
use crate::model::PriorityPolicy;

/// Longest pin id of a request; ours have 22 bytes.
const PIN_ID_BYTES_MAX: usize = 128;

fn send_status(context: &mut ConsumerContext<'_>, reply: &[u8], headers: &[u8]) {
    context
        .outbound
        .send(context.place.account, reply, b"", headers, b"");
}

/// The status line of a request beyond a cap of the configuration.
fn over_cap(pull: &PullSettings, body: &RequestBody) -> Option<String> {
    let expires_ns = u64::try_from(body.expires).unwrap_or(0);
    let bytes = u64::try_from(body.max_bytes).unwrap_or(0);
    if pull.max_batch > 0 && body.batch() > pull.max_batch {
        return Some(format!(
            "409 Exceeded MaxRequestBatch of {}",
            pull.max_batch
        ));
    }
    if pull.max_expires_ns > 0 && expires_ns > pull.max_expires_ns {
        let limit = go_duration::format(i64::try_from(pull.max_expires_ns).unwrap_or(i64::MAX));
        return Some(format!("409 Exceeded MaxRequestExpires of {limit}"));
    }
    if pull.max_bytes > 0 && bytes > pull.max_bytes {
        return Some(format!(
            "409 Exceeded MaxRequestMaxBytes of {}",
            pull.max_bytes
        ));
    }
    None
}

impl Consumer {
    /// A pull request: the body of `CONSUMER.MSG.NEXT` and the inbox to answer to. Refusals go
    /// out at once. Follow with [`Consumer::wake`].
    pub fn pull_request(&mut self, context: &mut ConsumerContext<'_>, reply: &[u8], body: &[u8]) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        if reply.is_empty() {
            return;
        }
        leader.last_used_ns = context.now.monotonic_ns;
        if let Err(line) = self.take_request(context, reply, body)
            && !line.is_empty()
        {
            send_status(context, reply, &status(&line));
        }
    }

    /// Checks and queues a request. The error is the status line, empty for silence.
    fn take_request(
        &mut self,
        context: &mut ConsumerContext<'_>,
        reply: &[u8],
        body: &[u8],
    ) -> Result<(), String> {
        let Mode::Pull(pull) = &self.settings.mode else {
            return Err("409 Consumer is push based".to_owned());
        };
        let body = RequestBody::parse(body).map_err(|why| format!("400 Bad Request - {why}"))?;
        if let Some(line) = over_cap(pull, &body) {
            return Err(line);
        }
        let max_waiting = pull.max_waiting;
        let group = priority::check(&self.settings, &body)?;
        self.check_pin(context, &body, group)?;
        if self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.waiting.len() >= max_waiting)
        {
            self.prune_requests(context);
        }
        self.check_no_wait(context, &body)?;
        let Some(leader) = self.leader.as_deref_mut() else {
            return Ok(());
        };
        if leader.waiting.len() >= max_waiting {
            let line = if body.idle_heartbeat > 0 {
                ""
            } else {
                "409 Exceeded MaxWaiting"
            };
            return Err(line.to_owned());
        }
        let request = new_request(context, reply, &body, group);
        let by_priority = self.settings.priority_policy == PriorityPolicy::Prioritized;
        leader.waiting.push(request, by_priority);
        Ok(())
    }

    fn check_pin(
        &mut self,
        context: &ConsumerContext<'_>,
        body: &RequestBody,
        group: usize,
    ) -> Result<(), String> {
        // Ids wait with their requests: long ones are wrong before they cost memory.
        if body.id.len() > PIN_ID_BYTES_MAX {
            return Err("423 Nats-Pin-Id mismatch".to_owned());
        }
        let Some(leader) = self.leader.as_deref_mut() else {
            return Ok(());
        };
        let pinned = leader
            .pins
            .get(group)
            .and_then(Option::as_ref)
            .map(|pin| pin.id == body.id);
        match pinned {
            Some(true) => leader.renew_pin(context.now, &self.settings, group),
            Some(false) if !body.id.is_empty() => {
                return Err("423 Nats-Pin-Id mismatch".to_owned());
            }
            Some(false) | None => {}
        }
        Ok(())
    }

    /// A `no_wait` request is refused when there is nothing for it.
    fn check_no_wait(
        &mut self,
        context: &ConsumerContext<'_>,
        body: &RequestBody,
    ) -> Result<(), String> {
        if !body.no_wait {
            return Ok(());
        }
        let pending = self.state.count(&self.settings.filter, context.store);
        let Some(leader) = self.leader.as_deref() else {
            return Ok(());
        };
        let pending = pending.saturating_add(leader.redeliver.len() as u64);
        if pending == 0 && body.expires <= 0 {
            return Err("404 No Messages".to_owned());
        }
        if pending > 0 && pending < leader.waiting.messages_wanted() {
            return Err("408 Requests Pending".to_owned());
        }
        Ok(())
    }

    /// Hands a message to the next request that takes it.
    pub(super) fn serve(
        &mut self,
        context: &mut ConsumerContext<'_>,
        outgoing: &Outgoing<'_>,
    ) -> bool {
        let counts = self.counts();
        let settings = &self.settings;
        let Some(leader) = self.leader.as_deref_mut() else {
            return false;
        };
        loop {
            let pins = &leader.pins;
            let next = leader
                .waiting
                .take(|request| priority::is_eligible(settings, pins, counts, request));
            let Some(mut request) = next else {
                return false;
            };
            if let Some(line) = leader.refusal(context, &request, outgoing.size()) {
                send_status(
                    context,
                    &request.reply,
                    &status_with_unused(line, request.unused()),
                );
            } else if leader.hand_over(context, settings, &mut request, outgoing) {
                let size = outgoing.size();
                leader.after_delivery(context, settings, request, size);
                return true;
            }
            // Nobody listens to this reply any more: the request is dropped silently.
        }
    }

    /// Ends the `no_wait` requests at the end of the stream.
    pub(super) fn end_one_shots(&mut self, context: &mut ConsumerContext<'_>) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        if !leader.waiting.has_one_shots() {
            return;
        }
        let headers = status("404 No Messages");
        leader.waiting.retain(|request| {
            let ends = request.no_wait && (request.delivered > 0 || request.expires_ns.is_none());
            if ends {
                send_status(context, &request.reply, &headers);
            }
            !ends
        });
    }

    /// Ends expired requests, drops those without interest, sends heartbeats.
    pub(super) fn prune_requests(&mut self, context: &mut ConsumerContext<'_>) {
        let delivered = self.state.delivered;
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        let now = context.now;
        leader.waiting.retain(|request| {
            if !context
                .outbound
                .has_interest(context.place.account, &request.reply)
            {
                return false;
            }
            if request.is_expired(now.monotonic_ns) {
                let headers = status_with_unused("408 Request Timeout", request.unused());
                send_status(context, &request.reply, &headers);
                return false;
            }
            if request.heartbeat_ns > 0 && request.next_heartbeat_ns <= now.monotonic_ns {
                // A `no_wait` request that got something hears of the end here, if not before.
                if request.no_wait && request.delivered > 0 {
                    send_status(context, &request.reply, &status("404 No Messages"));
                    return false;
                }
                request.next_heartbeat_ns = now.after_ns(request.heartbeat_ns);
                let headers = push_heartbeat(delivered.consumer, delivered.stream, None);
                send_status(context, &request.reply, &headers);
            }
            true
        });
    }

    /// Ends all waiting requests with a status.
    pub(super) fn end_requests(&mut self, context: &mut ConsumerContext<'_>, line: &str) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        let headers = status(line);
        for request in leader.waiting.drain() {
            send_status(context, &request.reply, &headers);
        }
    }

    /// Ends all waiting requests because the server shuts down.
    pub fn shut_down(&mut self, context: &mut ConsumerContext<'_>) {
        let Some(leader) = self.leader.as_deref_mut() else {
            return;
        };
        for request in leader.waiting.drain() {
            let headers = status_with_unused("409 Server Shutdown", request.unused());
            send_status(context, &request.reply, &headers);
        }
    }
}

fn new_request(
    context: &ConsumerContext<'_>,
    reply: &[u8],
    body: &RequestBody,
    group: usize,
) -> Request {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let heartbeat_ns = unsigned(body.idle_heartbeat);
    Request {
        reply: Bytes::copy_from_slice(reply),
        left: body.batch(),
        unnumbered: body.batch <= 0,
        delivered: 0,
        expires_ns: (body.expires > 0).then(|| context.now.after_ns(unsigned(body.expires))),
        no_wait: body.no_wait,
        bytes_left: (body.max_bytes > 0).then_some(unsigned(body.max_bytes)),
        heartbeat_ns,
        next_heartbeat_ns: context.now.after_ns(heartbeat_ns),
        group,
        id: body.id.clone(),
        min_pending: unsigned(body.min_pending),
        min_ack_pending: unsigned(body.min_ack_pending),
        priority: u8::try_from(body.priority).unwrap_or(0),
    }
}

impl Leadership {
    /// Why a request cannot take a message of this size.
    fn refusal(
        &self,
        context: &ConsumerContext<'_>,
        request: &Request,
        size: u64,
    ) -> Option<&'static str> {
        if request.is_expired(context.now.monotonic_ns) {
            Some("408 Request Timeout")
        } else if self.has_wrong_pin(request) {
            Some("423 Nats-Wrong-Pin-Id")
        } else if request.bytes_left.is_some_and(|left| left < size) {
            Some("409 Message Size Exceeds MaxBytes")
        } else {
            None
        }
    }

    fn hand_over(
        &mut self,
        context: &mut ConsumerContext<'_>,
        settings: &Settings,
        request: &mut Request,
        outgoing: &Outgoing<'_>,
    ) -> bool {
        let account = context.place.account;
        let Outgoing {
            subject,
            reply,
            headers,
            payload,
        } = outgoing;
        if settings.priority_policy != PriorityPolicy::PinnedClient {
            return context.outbound.deliver(
                account,
                &request.reply,
                subject,
                reply,
                headers,
                payload,
            );
        }
        if !context.outbound.has_interest(account, &request.reply) {
            return false;
        }
        self.pin(context, settings, request);
        let mut pinned = Vec::new();
        with_header(headers, "Nats-Pin-Id", request.id.as_bytes(), &mut pinned);
        context
            .outbound
            .deliver(account, &request.reply, subject, reply, &pinned, payload)
    }

    /// Accounts for a message that a request took, and ends or requeues the request.
    fn after_delivery(
        &mut self,
        context: &mut ConsumerContext<'_>,
        settings: &Settings,
        mut request: Request,
        size: u64,
    ) {
        request.left = request.left.saturating_sub(1);
        request.delivered += 1;
        request.bytes_left = request.bytes_left.map(|left| left.saturating_sub(size));
        if request.left > 0 {
            request.next_heartbeat_ns = context.now.after_ns(request.heartbeat_ns);
            let by_priority = settings.priority_policy == PriorityPolicy::Prioritized;
            self.waiting.push(request, by_priority);
        } else if request.bytes_left.is_some_and(|left| left > 0) {
            let headers = status_with_unused("409 Batch Completed", request.unused());
            send_status(context, &request.reply, &headers);
        }
    }
}
