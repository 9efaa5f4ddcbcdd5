//! A request on its way into the account that answers it.

use std::sync::Arc;

use millrace_clock::Now;
use millrace_config::options::ResponseType;
use millrace_wire::headers;

use super::request_info::REQUEST_INFO;
use super::responses::{Asked, End, ResponseId};
use super::{ExportKey, RequestInfo, ServiceExport, ServiceImport, is_over};
use crate::broker::Broker;
use crate::effects::Delivered;
use crate::ids::AccountId;
use crate::message_trace::Suspended;
use crate::publish::{Message, Outcome, Outgoing};

/// Acknowledgements keep their reply: it says by itself where they go.
const JETSTREAM_ACK: &[u8] = b"$JS.ACK.";

/// The imports that a message has come through, the last one first.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    export: ExportKey,
    share: bool,
    /// What the last one said of who asks; `None` for answers.
    info: Option<&'a RequestInfo>,
    /// Headers as the publisher wrote them.
    pub(crate) headers: &'a [u8],
    previous: Option<&'a Self>,
}

impl Chain<'_> {
    fn contains(&self, export: ExportKey) -> bool {
        let mut link = Some(self);
        while let Some(chain) = link {
            if chain.export == export {
                return true;
            }
            link = chain.previous;
        }
        false
    }
}

impl Broker {
    /// A message of the importer meets the subscription of an imported service.
    pub(crate) fn deliver_service(
        &mut self,
        now: Now,
        place: u32,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        let Some(import) = self.imports.services.get(place as usize).map(Arc::clone) else {
            return Outcome::Refused;
        };
        let export = Arc::clone(&import.export);
        let is_round = outgoing
            .chain
            .is_some_and(|chain| chain.contains(export.key));
        if is_round || is_over(import.expires_wall_ns, now) {
            return Outcome::Refused;
        }
        let message = outgoing.message;
        let (response, reply) = self.reply_for(now, &import, outgoing);
        let subject = self.remote_subject(&import, outgoing.destination);
        let previous = outgoing.chain;
        let info = self.info_for(&import, outgoing);
        let block = headers::set(message.headers, REQUEST_INFO, &info.json());
        let (mut suspended, mut block) = (Suspended::NOTHING, Some(block));
        if self.is_message_traced {
            let exporter = (import.exporter, export.allow_trace);
            let names = (message.subject, &*subject);
            (block, suspended) = self.trace_service_import(now, exporter, names, block);
        }
        let chain = Chain {
            export: export.key,
            share: previous.map_or(import.share, |chain| chain.share),
            info: Some(&info),
            headers: previous.map_or(message.headers, |chain| chain.headers),
            previous,
        };
        let delivered = block.map_or_else(Delivered::default, |block| {
            let request = Message {
                subject: &subject,
                reply: &reply,
                headers: &block,
                tail: &[],
                ..*message
            };
            self.publish_onward(now, import.exporter, &request, &subject, &chain, outgoing)
        });
        self.resume_trace(suspended);
        if !delivered.any()
            && let Some(id) = response
        {
            self.end_response(now, id, End::NotDelivered);
        }
        settle(delivered, outgoing)
    }

    /// The reply subject of a request, as the exporter sees it.
    fn reply_for(
        &mut self,
        now: Now,
        import: &ServiceImport,
        outgoing: &Outgoing<'_>,
    ) -> (Option<ResponseId>, Vec<u8>) {
        let message = outgoing.message;
        let sampled = self.sample(&import.export, message.headers);
        if message.reply.is_empty() {
            if let Some(headers) = sampled {
                self.tell_bad_request(now, import, outgoing.publisher, headers);
            }
            return (None, Vec::new());
        }
        if message.reply.starts_with(JETSTREAM_ACK) {
            return (None, message.reply.to_vec());
        }
        let asked = Asked {
            importer: import.importer,
            export: &import.export,
            reply: message.reply,
            requestor: outgoing.publisher,
            share: import.share,
            sampled,
        };
        let (id, reply) = self.await_response(now, asked);
        (Some(id), reply)
    }

    /// An answer meets the subscription for all replies of the exporter.
    pub(crate) fn deliver_response(
        &mut self,
        now: Now,
        account: AccountId,
        outgoing: &mut Outgoing<'_>,
    ) -> Outcome {
        let Some(id) = self.find_response(account, outgoing.destination) else {
            return Outcome::Refused;
        };
        self.measure_response(now, id, outgoing.publisher);
        let Some(response) = self.imports.responses.get(id) else {
            return Outcome::Refused;
        };
        let export = Arc::clone(&response.export);
        let (importer, destination) = (response.importer, response.reply.clone());
        let (response_type, share) = (export.response_type, response.share);
        if outgoing
            .chain
            .is_some_and(|chain| chain.contains(export.key))
        {
            return Outcome::Refused;
        }
        let message = outgoing.message;
        let (asked_back, reply) = self.ask_back(now, account, &export, (importer, share), outgoing);
        let is_renamed = message.subject != outgoing.destination;
        let answer = Message {
            subject: if is_renamed {
                message.subject
            } else {
                &destination
            },
            reply: &reply,
            ..*message
        };
        let chain = Chain {
            export: export.key,
            share,
            info: None,
            headers: message.headers,
            previous: outgoing.chain,
        };
        let delivered = self.publish_onward(now, importer, &answer, &destination, &chain, outgoing);
        let is_end = message.headers.is_empty() && message.payload.is_empty();
        if !delivered.any() {
            self.end_response(now, id, End::NotDelivered);
            if let Some(id) = asked_back {
                self.end_response(now, id, End::NotDelivered);
            }
        } else if response_type == ResponseType::Singleton || is_end {
            self.end_response(now, id, End::Answered);
        } else {
            self.renew_response(now, id);
        }
        settle(delivered, outgoing)
    }

    /// The reply subject of an answer, as the asker sees it: an answer may ask back, which goes the
    /// same way, turned round.
    fn ask_back(
        &mut self,
        now: Now,
        account: AccountId,
        export: &Arc<ServiceExport>,
        (importer, share): (AccountId, bool),
        outgoing: &Outgoing<'_>,
    ) -> (Option<ResponseId>, Vec<u8>) {
        let reply = outgoing.message.reply;
        if reply.is_empty() || reply.starts_with(JETSTREAM_ACK) {
            return (None, reply.to_vec());
        }
        let asked = Asked {
            importer: account,
            export: &export.turned(importer),
            reply,
            requestor: outgoing.publisher,
            share,
            sampled: None,
        };
        let (id, reply) = self.await_response(now, asked);
        (Some(id), reply)
    }

    /// The exporter's subject for one of the importer, its mappings applied.
    fn remote_subject(&mut self, import: &ServiceImport, subject: &[u8]) -> Vec<u8> {
        let remote = match &import.transform {
            Some(transform) => transform
                .apply(subject, &mut self.random)
                .unwrap_or_default(),
            None if import.is_same => subject.to_vec(),
            None => import.remote.to_vec(),
        };
        match self.mapped_subject(import.exporter, &remote) {
            Some(mapped) => mapped,
            None => remote,
        }
    }

    /// What the exporter learns of who asks.
    fn info_for(&self, import: &ServiceImport, outgoing: &Outgoing<'_>) -> RequestInfo {
        let is_system = import.exporter == AccountId::SYSTEM;
        let known = outgoing.chain.and_then(|chain| Some((chain, chain.info?)));
        if let Some((chain, info)) = known {
            let mut info = info.clone();
            info.set_service(self.account_name(import.importer));
            if !chain.share && (import.share || is_system) {
                self.add_server(&mut info);
            }
            return info;
        }
        let mut info = self.request_info(outgoing.publisher, import.importer, import.share);
        if is_system && !import.share {
            self.add_server(&mut info);
        }
        info
    }

    /// Delivers in another account what came through an import.
    fn publish_onward(
        &mut self,
        now: Now,
        account: AccountId,
        message: &Message<'_>,
        destination: &[u8],
        chain: &Chain<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Delivered {
        let mut inner = outgoing.onward(message, destination, Some(chain));
        self.publish_in(now, account, &mut inner);
        inner.delivered
    }
}

/// What a message that went on elsewhere means where it came from.
fn settle(delivered: Delivered, outgoing: &mut Outgoing<'_>) -> Outcome {
    if delivered.any() {
        outgoing.delivered.imports += 1;
        Outcome::Taken
    } else {
        Outcome::Refused
    }
}
