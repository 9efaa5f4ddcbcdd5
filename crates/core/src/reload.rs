//! New options for a running broker: every client is judged again as if it had just logged in.
//! What may change at all was decided before (spec core/08).

use std::sync::Arc;

use millrace_auth::operator::OperatorMode;
use millrace_auth::{Authenticator, Decision, Identity};
use millrace_clock::Now;
use millrace_config::Options;
use millrace_wire::info::ConnectOptions;

use crate::broker::Broker;
use crate::client::Hashing;
use crate::door::{rules_of, websocket_rules};
use crate::effects::{BrokerEffect, CloseReason};
use crate::login::judge;
use crate::session::Phase;

impl Broker {
    /// Applies new options to the running broker; what cannot change was refused before.
    ///
    /// Clients whose credentials no longer hold are closed with `Authorization Violation`, those
    /// whose user is gone or in another account with `Client Closed`. (The reference also closes
    /// clients that named a user where none is listed, though they may stay.) Subscriptions that are no longer
    /// allowed are removed and told. Of too many connections random ones are closed.
    pub fn apply_options(&mut self, now: Now, options: Arc<Options>) {
        let authenticator = Authenticator::new(&options);
        self.take_over(options, authenticator);
        for slot in self.open_slots() {
            self.judge_again(now, slot);
        }
        self.close_excess(now);
    }

    /// As [`Self::apply_options`] where only the tokens of `accounts` came, went or changed: only
    /// their clients are judged again. `operator` is what the options' tokens say.
    pub fn apply_tokens<'a>(
        &mut self,
        now: Now,
        options: Arc<Options>,
        operator: OperatorMode,
        accounts: impl Iterator<Item = &'a str>,
    ) {
        let authenticator = Authenticator::with_operator(&options, Some(operator));
        let concerned: Vec<_> = accounts
            .map(|name| self.accounts.find_or_add(name))
            .collect();
        self.take_over(options, authenticator);
        for slot in self.open_slots() {
            let Some(session) = self.sessions.get_mut(slot as usize) else {
                continue;
            };
            session.client.cache = None;
            if session
                .account
                .is_some_and(|account| concerned.contains(&account))
            {
                self.judge_again(now, slot);
            }
        }
    }

    fn take_over(&mut self, options: Arc<Options>, authenticator: Authenticator) {
        self.authenticator = authenticator;
        self.websocket_authenticator = websocket_rules(&options);
        self.max_pending = usize::try_from(options.client.max_pending).unwrap_or(usize::MAX);
        for account in &options.accounts {
            self.accounts.find_or_add(&account.name);
        }
        self.is_tracing = options.log.trace;
        let shares =
            self.options.accounts != options.accounts || self.options.mappings != options.mappings;
        self.options = options;
        if shares {
            self.renew_imports();
        }
    }

    /// Whom the server trusts and which accounts it knows, in operator mode.
    #[must_use]
    pub const fn operator(&self) -> Option<&OperatorMode> {
        self.authenticator.operator()
    }

    /// Newest connections first, so that they are the ones that a lower limit sends away.
    fn open_slots(&self) -> Vec<u32> {
        let open = self
            .sessions
            .iter()
            .filter(|(_, session)| session.phase == Phase::Open);
        let mut slots: Vec<_> = open.map(|(slot, session)| (session.id, slot)).collect();
        slots.sort_unstable_by(|first, second| second.cmp(first));
        slots.into_iter().map(|(_, slot)| slot as u32).collect()
    }

    fn judge_again(&mut self, now: Now, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot as usize) else {
            return;
        };
        session.client.cache = None;
        let nothing = ConnectOptions::default();
        let options = session.client.options.as_deref().unwrap_or(&nothing);
        let rules = rules_of(
            session.facts.kind,
            &self.authenticator,
            self.websocket_authenticator.as_ref(),
        );
        if session.client.is_placed {
            // Who a service has let in stays: it is asked at logins.
            return;
        }
        match judge(now, rules, session, options) {
            Decision::Accept(identity) => self.readmit(now, slot, &identity),
            Decision::Reject(rejection) if rejection.is_revoked => {
                let reason = CloseReason::Revocation;
                self.fail(now, slot, b"User Authentication Revoked", reason);
            }
            Decision::Reject(_) if is_removed(&self.options, options) => {
                self.close_session(now, slot, CloseReason::ClientClosed, true);
            }
            Decision::Reject(rejection) => self.reject(now, slot, &rejection),
            Decision::Ask(callout) => self.ask_outside(now, slot, *callout),
            Decision::NeedHash(check) => {
                session.phase = Phase::Hashing;
                let identity = check.identity.clone();
                session.client.hashing = Some(Box::new(Hashing {
                    identity,
                    is_reload: true,
                }));
                self.effects.push(BrokerEffect::HashPassword {
                    id: session.id,
                    check,
                });
            }
        }
    }

    /// The client may stay, as whoever it is now.
    pub(crate) fn readmit(&mut self, now: Now, slot: u32, identity: &Identity) {
        let account = self.accounts.find_or_add(&identity.account);
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        if session.account != Some(account) {
            self.close_session(now, slot, CloseReason::ClientClosed, true);
            return;
        }
        if !self.bind_identity(now, slot, identity) {
            return;
        }
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        for key in session.client.subscriptions.keys() {
            self.check_subscription(slot, key);
        }
    }

    /// Removes a subscription that permissions no longer allow, or renews what they hold back.
    fn check_subscription(&mut self, slot: u32, key: crate::account::SubscriptionKey) {
        let Some(session) = self.sessions.get(slot as usize) else {
            return;
        };
        let rules = session.client.permissions.clone();
        let Some(record) = self.subscriptions.get_mut(key) else {
            return;
        };
        record.deny = rules
            .as_deref()
            .and_then(|rules| rules.deny_filter(record.filter(), record.queue()));
        if rules.is_none_or(|rules| rules.can_subscribe(record.filter(), record.queue())) {
            return;
        }
        let (subject, sid) = (record.filter().to_vec(), record.sid().to_vec());
        let queue = record.queue().map(<[u8]>::to_vec);
        self.remove_subscription(key);
        self.removal_violation(slot, &subject, queue.as_deref(), &sid);
    }

    fn close_excess(&mut self, now: Now) {
        let limit = self.options.client.max_connections;
        let mut slots = self.open_slots();
        while limit >= 0 && self.open_sessions as i64 > limit && !slots.is_empty() {
            let chosen = self.random.below(slots.len() as u64) as usize;
            let slot = slots.swap_remove(chosen);
            let reason = CloseReason::MaxConnectionsExceeded;
            self.fail(now, slot, b"maximum connections exceeded", reason);
        }
    }
}

/// Whether the client named a user or nkey that is no longer listed.
fn is_removed(options: &Options, client: &ConnectOptions) -> bool {
    let of_accounts = options.accounts.iter().flat_map(|account| &account.users);
    let mut users = options.authorization.users.iter().chain(of_accounts);
    if !client.nkey.is_empty() {
        return !users.any(|user| user.nkey.as_ref() == Some(&client.nkey));
    }
    !client.user.is_empty() && !users.any(|user| user.name == client.user)
}
