//! The room's front door: [`JetStream`] owns accounts, streams and the meta group and hands every
//! input to the one it concerns.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_clock::{Now, Random};

use crate::ids::{AccountRef, Endpoint, GroupId, META_GROUP, StreamId};
use crate::io::{Effect, Input, Message};
use crate::outbound::Outbound;
use crate::settings::{AccountLimits, Settings};
use crate::stream::Stream;

/// An account with JetStream and the names of its streams.
#[derive(Debug)]
pub struct Account {
    pub name: String,
    pub limits: AccountLimits,
    pub streams: BTreeMap<String, StreamId>,
    /// API requests answered, and how many of them with an error.
    pub api_total: u64,
    pub api_errors: u64,
}

/// The JetStream of one server.
pub struct JetStream {
    pub settings: Settings,
    pub accounts: BTreeMap<AccountRef, Account>,
    pub streams: BTreeMap<StreamId, Stream>,
    pub random: Random,
}

impl JetStream {
    /// An empty JetStream. Call [`JetStream::start`] once, then [`JetStream::restore`] for the
    /// meta group if the journal has a checkpoint of it, then hand in committed entries.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let accounts = settings
            .accounts
            .iter()
            .map(|account| {
                let state = Account {
                    name: account.name.clone(),
                    limits: account.limits,
                    streams: BTreeMap::new(),
                    api_total: 0,
                    api_errors: 0,
                };
                (account.account, state)
            })
            .collect();
        let random = Random::new(settings.seed);
        Self {
            settings,
            accounts,
            streams: BTreeMap::new(),
            random,
        }
    }

    /// Asks for the meta group and the API subscriptions.
    pub fn start(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::CreateGroup {
            group: META_GROUP,
            volatile: false,
        });
        for account in self.accounts.keys() {
            let filter = Bytes::from_static(b"$JS.API.>");
            effects.push(Effect::Bind {
                account: *account,
                filter,
                endpoint: Endpoint::Api,
            });
        }
    }

    /// Takes a group's last checkpoint, before any of its entries.
    pub fn restore(&mut self, group: GroupId, checkpoint: &Bytes, effects: &mut Vec<Effect>) {
        let _ = (group, checkpoint, effects);
    }

    /// Handles one input.
    pub fn handle(
        &mut self,
        now: Now,
        input: Input,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        match input {
            Input::Deliver {
                account,
                endpoint,
                message,
            } => {
                self.deliver(now, account, endpoint, message, out, effects);
            }
            Input::Committed { .. }
            | Input::RoleChanged { .. }
            | Input::Disk(_)
            | Input::InterestChanged { .. }
            | Input::CheckpointDurable { .. }
            | Input::CheckpointWanted { .. }
            | Input::JournalReleased { .. }
            | Input::DiskFull { .. }
            | Input::Tick => {}
        }
    }

    fn deliver(
        &mut self,
        now: Now,
        account: AccountRef,
        endpoint: Endpoint,
        message: Message,
        out: &mut dyn Outbound,
        effects: &mut Vec<Effect>,
    ) {
        let _ = (now, account, endpoint, message, out, effects);
    }

    /// Ends a turn: what the inputs since the last call staged is proposed, one entry per stream.
    pub fn end_of_turn(&mut self, now: Now, out: &mut dyn Outbound, effects: &mut Vec<Effect>) {
        let _ = (now, out, effects);
    }

    /// Monotonic time at which [`Input::Tick`] is due; `None`: nothing waits for time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }
}
