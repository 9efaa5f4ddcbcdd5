//! Random subscribing, unsubscribing and publishing over several connections, against a model that
//! keeps a list of subscriptions and looks through all of it for every message.

mod support;

use std::collections::BTreeMap;

use millrace_config::Options;
use proptest::prelude::*;
use support::Bench;

#[derive(Clone, Debug)]
enum Action {
    Subscribe {
        client: usize,
        filter: usize,
        queue: Option<usize>,
        sid: u8,
    },
    Unsubscribe {
        client: usize,
        sid: u8,
        max: u64,
    },
    Publish {
        client: usize,
        subject: usize,
    },
    Reconnect {
        client: usize,
    },
}

const CLIENTS: usize = 3;
const FILTERS: [&str; 9] = ["a", "a.b", "a.*", "a.>", "*.b", ">", "*", "a.b.c", "*.*.c"];
const SUBJECTS: [&str; 6] = ["a", "a.b", "a.c", "a.b.c", "x.y.c", "b"];
const QUEUES: [&str; 2] = ["q", "r"];

fn action() -> impl Strategy<Value = Action> {
    let client = 0..CLIENTS;
    let subscribe = (
        client.clone(),
        0..FILTERS.len(),
        prop::option::of(0..QUEUES.len()),
        0..6_u8,
    )
        .prop_map(|(client, filter, queue, sid)| Action::Subscribe {
            client,
            filter,
            queue,
            sid,
        });
    let unsubscribe = (client.clone(), 0..6_u8, 0..5_u64)
        .prop_map(|(client, sid, max)| Action::Unsubscribe { client, sid, max });
    let publish = (client.clone(), 0..SUBJECTS.len())
        .prop_map(|(client, subject)| Action::Publish { client, subject });
    let reconnect = client.prop_map(|client| Action::Reconnect { client });
    prop_oneof![4 => subscribe, 2 => unsubscribe, 8 => publish, 1 => reconnect]
}

struct Subscription {
    client: usize,
    filter: &'static str,
    queue: Option<&'static str>,
    sid: u8,
    delivered: u64,
    max: u64,
}

/// Client and sid.
type Recipient = (usize, u8);

#[derive(Default)]
struct Model {
    subscriptions: Vec<Subscription>,
}

fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in filter.split('.') {
        let token = tokens.next();
        match (part, token) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

impl Model {
    /// Notes one delivery; false if it was not due.
    fn deliver(&mut self, client: usize, sid: u8, subject: &str) -> bool {
        let found = self
            .subscriptions
            .iter_mut()
            .position(|s| s.client == client && s.sid == sid && matches(s.filter, subject));
        let Some(place) = found else { return false };
        let subscription = &mut self.subscriptions[place];
        subscription.delivered += 1;
        if subscription.max > 0 && subscription.delivered >= subscription.max {
            self.subscriptions.remove(place);
        }
        true
    }

    /// What one publish must lead to: single recipients, and groups of which one gets it.
    fn expect(&self, subject: &str) -> (Vec<Recipient>, BTreeMap<&'static str, Vec<Recipient>>) {
        let mut plain = Vec::new();
        let mut groups: BTreeMap<&str, Vec<(usize, u8)>> = BTreeMap::new();
        for s in self
            .subscriptions
            .iter()
            .filter(|s| matches(s.filter, subject))
        {
            match s.queue {
                None => plain.push((s.client, s.sid)),
                Some(queue) => groups.entry(queue).or_default().push((s.client, s.sid)),
            }
        }
        plain.sort_unstable();
        (plain, groups)
    }
}

fn name(client: usize) -> String {
    format!("c{client}")
}

fn connect(bench: &mut Bench, client: usize) {
    bench.open(&name(client));
    bench.take(&name(client));
    let line = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    bench.exchange(&name(client), line);
}

/// The `(client, sid)` of all messages that came, in ascending order.
fn received(bench: &mut Bench, subject: &str) -> Vec<(usize, u8)> {
    let mut all = Vec::new();
    for client in 0..CLIENTS {
        let text = bench.take(&name(client));
        for line in text.split("\r\n").filter(|line| line.starts_with("MSG ")) {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[1], subject);
            all.push((client, words[2].parse().expect("a sid")));
        }
    }
    all.sort_unstable();
    all
}

fn publish(bench: &mut Bench, model: &mut Model, client: usize, subject: &str) {
    let (plain, groups) = model.expect(subject);
    bench.send(
        &name(client),
        format!("PUB {subject} 1\r\nx\r\n").as_bytes(),
    );
    let mut got = received(bench, subject);
    for recipient in &got {
        assert!(
            model.deliver(recipient.0, recipient.1, subject),
            "{recipient:?} on {subject}"
        );
    }
    for recipient in &plain {
        let place = got.iter().position(|other| other == recipient);
        got.remove(place.unwrap_or_else(|| panic!("{recipient:?} missed {subject}")));
    }
    assert_eq!(
        got.len(),
        groups.len(),
        "one of each group: {groups:?}, {got:?}"
    );
    for members in groups.values() {
        assert!(
            members.iter().any(|member| got.contains(member)),
            "{members:?}, {got:?}"
        );
    }
}

fn run(actions: Vec<Action>) {
    let mut bench = Bench::new(Options::default());
    let mut model = Model::default();
    (0..CLIENTS).for_each(|client| connect(&mut bench, client));
    for action in actions {
        match action {
            Action::Subscribe {
                client,
                filter,
                queue,
                sid,
            } => {
                let (filter, queue) = (FILTERS[filter], queue.map(|queue| QUEUES[queue]));
                let line = format!("SUB {filter} {} {sid}\r\n", queue.unwrap_or_default());
                bench.send(&name(client), line.as_bytes());
                let is_used = |s: &Subscription| s.client == client && s.sid == sid;
                if !model.subscriptions.iter().any(is_used) {
                    let subscription = Subscription {
                        client,
                        filter,
                        queue,
                        sid,
                        delivered: 0,
                        max: 0,
                    };
                    model.subscriptions.push(subscription);
                }
            }
            Action::Unsubscribe { client, sid, max } => {
                bench.send(&name(client), format!("UNSUB {sid} {max}\r\n").as_bytes());
                for s in &mut model.subscriptions {
                    if s.client == client && s.sid == sid {
                        s.max = max;
                    }
                }
                model
                    .subscriptions
                    .retain(|s| s.client != client || s.sid != sid || s.max > s.delivered);
            }
            Action::Publish { client, subject } => {
                publish(&mut bench, &mut model, client, SUBJECTS[subject]);
            }
            Action::Reconnect { client } => {
                bench.close(&name(client));
                connect(&mut bench, client);
                model.subscriptions.retain(|s| s.client != client);
            }
        }
        assert_eq!(bench.broker.subscription_count(), model.subscriptions.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    // proves: SUB-03, SUB-04, SUB-05, SUB-06, SUB-10, SUB-14
    #[test]
    fn every_message_reaches_whom_the_model_says(actions in prop::collection::vec(action(), 1..120)) {
        run(actions);
    }
}
