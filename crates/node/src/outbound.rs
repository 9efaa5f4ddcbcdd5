//! JetStream's way out: its sends become publishes of the broker, answered at once, because what a
//! consumer does next depends on whether somebody took the message (hard-parts 1).

use bytes::Bytes;
use millrace_clock::Now;
use millrace_core::{AccountId, Broker, ConnectionId};
use millrace_jetstream::AccountRef;
use millrace_jetstream::outbound::{ClientFacts, ClientHandle, Outbound};

pub(crate) struct BrokerOutbound<'a> {
    pub(crate) now: Now,
    pub(crate) broker: &'a mut Broker,
}

impl Outbound for BrokerOutbound<'_> {
    fn send(
        &mut self,
        account: AccountRef,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> bool {
        self.broker
            .publish(
                self.now,
                AccountId(account.0),
                subject,
                reply,
                headers,
                payload,
            )
            .any()
    }

    fn deliver(
        &mut self,
        account: AccountRef,
        destination: &[u8],
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &Bytes,
    ) -> bool {
        let account = AccountId(account.0);
        self.broker
            .publish_as(
                self.now,
                account,
                destination,
                subject,
                reply,
                headers,
                payload,
            )
            .any()
    }

    fn has_interest(&self, account: AccountRef, subject: &[u8]) -> bool {
        self.broker.has_interest(AccountId(account.0), subject)
    }

    fn has_queue_interest(&self, account: AccountRef, subject: &[u8], queue: &[u8]) -> bool {
        self.broker
            .has_queue_interest(AccountId(account.0), subject, queue)
    }

    fn client_facts(&self, client: ClientHandle) -> Option<ClientFacts> {
        let info = self.broker.connection(ConnectionId(client.0))?;
        Some(ClientFacts {
            start_ns: info.started.wall_ns,
            host: info.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            id: info.id.0,
            account: info.account_name,
            user: info.authorized_user,
            name: info.name,
            language: info.lang,
            version: info.version,
            round_trip_ns: info.round_trip_ns,
            server: self.broker.identity().server_name.clone(),
            kind: "Client".to_owned(),
            client_type: "nats".to_owned(),
        })
    }
}
