//! No path publishes or delivers without the check: random users with random permissions do random
//! things, through mappings and through imports of other accounts, and each message that arrives is
//! held against a model that knows nothing but the words of the configuration.

mod support;

use std::sync::Arc;

use millrace_config::Options;
use millrace_subject::{is_subset, matches};
use proptest::prelude::*;
use support::Bench;

/// Subjects of publishers; `m.x` is mapped to `t.x`, `s.x` goes into account B, `n.x` comes from there.
const SUBJECTS: [&str; 6] = ["a.x", "a.y", "t.x", "m.x", "s.x", "n.x"];
const FILTERS: [&str; 8] = ["a.x", "a.*", ">", "t.>", "s.x", "n.x", "n.*", "*.x"];
const RULES: [&str; 8] = ["a.x", "a.>", "t.x", "m.x", "s.*", "n.x", "*.x", ">"];

#[derive(Clone, Debug, Default)]
struct Rules {
    allow: Vec<&'static str>,
    deny: Vec<&'static str>,
}

impl Rules {
    fn text(&self) -> String {
        let list = |rules: &[&str]| {
            let quoted: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
            quoted.join(", ")
        };
        format!(
            "{{allow: [{}], deny: [{}]}}",
            list(&self.allow),
            list(&self.deny)
        )
    }

    /// Whether a literal subject may be published to, or delivered.
    fn lets_through(&self, subject: &str) -> bool {
        let is_in = |rules: &[&str]| {
            rules
                .iter()
                .any(|rule| matches(rule.as_bytes(), subject.as_bytes()))
        };
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.deny)
    }

    /// Whether a filter may be subscribed to at all.
    fn may_subscribe(&self, filter: &str) -> bool {
        let covers = |rules: &[&str]| {
            rules
                .iter()
                .any(|rule| is_subset(filter.as_bytes(), rule.as_bytes()))
        };
        (self.allow.is_empty() || covers(&self.allow)) && !covers(&self.deny)
    }
}

#[derive(Clone, Debug)]
struct World {
    publish: Rules,
    subscribe: Rules,
    filters: Vec<&'static str>,
    published: Vec<&'static str>,
}

fn rules() -> impl Strategy<Value = Rules> {
    let some = |most| proptest::collection::vec(proptest::sample::select(&RULES[..]), 0..most);
    (some(4), some(3)).prop_map(|(allow, deny)| Rules { allow, deny })
}

fn world() -> impl Strategy<Value = World> {
    let filters = proptest::collection::vec(proptest::sample::select(&FILTERS[..]), 1..4);
    let published = proptest::collection::vec(proptest::sample::select(&SUBJECTS[..]), 1..12);
    (rules(), rules(), filters, published).prop_map(|(publish, subscribe, filters, published)| {
        World {
            publish,
            subscribe,
            filters,
            published,
        }
    })
}

fn options(publish: &Rules, subscribe: &Rules) -> Options {
    let text = format!(
        "accounts {{
           A {{ users [{{user: p, password: p, permissions: {{publish: {}}}}}
                      {{user: s, password: p, permissions: {{subscribe: {}}}}}]
               mappings {{ \"m.x\": \"t.x\" }}
               imports [{{service: {{account: B, subject: \"s.x\"}}}}
                        {{stream: {{account: B, subject: \"n.x\"}}}}] }}
           B {{ users [{{user: b, password: p}}]
               exports [{{service: \"s.x\"}}, {{stream: \"n.x\"}}] }}
         }}",
        publish.text(),
        subscribe.text()
    );
    let load = |name: &str| Err(format!("no file {name}"));
    millrace_config::parse(&text, "x.conf", &load, &|_| None)
        .expect("a configuration")
        .0
}

fn log_in(bench: &mut Bench, name: &str) {
    bench.open(name);
    let connect = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"user\":\"{name}\",\"pass\":\"p\"}}\r\nPING\r\n"
    );
    assert!(bench.exchange(name, &connect).ends_with("PONG\r\n"));
}

/// Subjects of the messages in what a client received, sorted, and how many errors there were.
fn received(text: &str) -> (Vec<String>, usize) {
    let mut subjects: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with("MSG ") || line.starts_with("HMSG "))
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect();
    subjects.sort();
    (
        subjects,
        text.matches("-ERR 'Permissions Violation").count(),
    )
}

fn mapped(subject: &'static str) -> &'static str {
    if subject == "m.x" { "t.x" } else { subject }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // proves: AUT-09 AUT-10 AUT-11 ACC-14
    #[test]
    fn what_arrives_is_what_both_sides_may(world in world()) {
        let mut bench = Bench::new(options(&world.publish, &world.subscribe));
        ["p", "s", "b"].iter().for_each(|name| log_in(&mut bench, name));
        bench.exchange("b", "SUB > 1\r\n");
        for (number, filter) in world.filters.iter().enumerate() {
            bench.send("s", format!("SUB {filter} {number}\r\n").as_bytes());
        }
        let (_, refused) = received(&bench.take("s"));
        let held: Vec<&str> = world.filters.iter().copied()
            .filter(|filter| world.subscribe.may_subscribe(filter)).collect();
        prop_assert_eq!(refused, world.filters.len() - held.len());

        let mut expected = Vec::new();
        let mut in_b = Vec::new();
        let mut violations = 0;
        let mut arrive = |subject: &str| {
            for filter in &held {
                if matches(filter.as_bytes(), subject.as_bytes()) && world.subscribe.lets_through_deny(subject) {
                    expected.push(subject.to_owned());
                }
            }
        };
        for subject in &world.published {
            bench.send("p", format!("PUB {subject} 1\r\nx\r\n").as_bytes());
            let subject = mapped(subject);
            if !world.publish.lets_through(subject) {
                violations += 1;
                continue;
            }
            arrive(subject);
            if subject == "s.x" {
                in_b.push(subject.to_owned());
            }
        }
        bench.send("b", b"PUB n.x 1\r\nx\r\n");
        arrive("n.x");
        in_b.push("n.x".to_owned());
        expected.sort();
        in_b.sort();
        prop_assert_eq!(received(&bench.take("p")).1, violations);
        prop_assert_eq!(received(&bench.take("s")).0, expected);
        prop_assert_eq!(received(&bench.take("b")).0, in_b);
    }

    // proves: AUT-15
    #[test]
    fn remembered_permissions_do_not_outlive_a_reload(before in rules(), after in rules()) {
        let nothing = Rules::default();
        let mut bench = Bench::new(options(&before, &nothing));
        ["p", "s"].iter().for_each(|name| log_in(&mut bench, name));
        bench.exchange("s", "SUB > 1\r\n");
        for rules in [&before, &before, &after, &after] {
            bench.broker.apply_options(bench.now, Arc::new(options(rules, &nothing)));
            bench.settle();
            for subject in SUBJECTS {
                bench.send("p", format!("PUB {subject} 1\r\nx\r\n").as_bytes());
                let is_allowed = rules.lets_through(mapped(subject));
                prop_assert_eq!(received(&bench.take("p")).1, usize::from(!is_allowed));
                prop_assert_eq!(received(&bench.take("s")).0.len(), usize::from(is_allowed));
            }
        }
    }
}

impl Rules {
    /// Whether nothing denies a message to a subscription that was allowed.
    fn lets_through_deny(&self, subject: &str) -> bool {
        !self
            .deny
            .iter()
            .any(|rule| matches(rule.as_bytes(), subject.as_bytes()))
    }
}
