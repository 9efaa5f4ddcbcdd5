//! What a user may publish and subscribe to (spec core/09 §9.4).
//!
//! Permits for reply subjects are counted per connection, in `reply_permits`.

use std::sync::Arc;

use millrace_config::options::{PermissionOptions, ResponseOptions};
use millrace_subject::{is_subset, matches, overlaps};

/// Compiled permissions of a user, shared by its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    publish: Rules,
    subscribe: Rules,
    responses: Option<ResponseOptions>,
}

/// Allowed and denied subjects of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules {
    /// Without an allow list all is allowed.
    restricted: bool,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// A subject, for subscribing optionally limited to queues.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    subject: Box<[u8]>,
    queue: Option<Box<[u8]>>,
}

impl Rule {
    fn new(text: &str) -> Option<Self> {
        let mut parts = text.split_whitespace();
        let subject = parts.next()?.as_bytes().into();
        Some(Self {
            subject,
            queue: parts.next().map(|queue| queue.as_bytes().into()),
        })
    }

    /// Whether the rule is about this queue; a rule without queue is about none in particular.
    fn names_queue(&self, queue: Option<&[u8]>) -> bool {
        match (&self.queue, queue) {
            (Some(pattern), Some(queue)) => is_subset(queue, pattern),
            _ => false,
        }
    }
}

fn compile(texts: &[String]) -> Vec<Rule> {
    texts.iter().filter_map(|text| Rule::new(text)).collect()
}

impl Permissions {
    /// Compiles what the configuration says.
    #[must_use]
    pub fn new(options: &PermissionOptions) -> Self {
        let rules = |list: &Option<millrace_config::options::SubjectList>| match list {
            Some(list) => Rules {
                restricted: !list.allow.is_empty(),
                allow: compile(&list.allow),
                deny: compile(&list.deny),
            },
            None => Rules::default(),
        };
        let mut publish = rules(&options.publish);
        // Who may answer may, unless more is said, do nothing but answer.
        publish.restricted |= options.allow_responses.is_some();
        Self {
            publish,
            subscribe: rules(&options.subscribe),
            responses: options.allow_responses,
        }
    }

    /// The same, without leave to publish to `subject`.
    pub(crate) fn without_publish(self, subject: &str) -> Self {
        let mut denied = self;
        denied.publish.deny.extend(Rule::new(subject));
        denied
    }

    /// Whether the lists allow publishing to `subject` (reply permits are asked apart).
    ///
    /// Wildcard tokens in `subject` are compared as they stand.
    #[must_use]
    pub fn can_publish(&self, subject: &[u8]) -> bool {
        let is_in = |rules: &[Rule]| rules.iter().any(|rule| matches(&rule.subject, subject));
        !is_in(&self.publish.deny) && (!self.publish.restricted || is_in(&self.publish.allow))
    }

    /// Whether a subscription to `subject`, with or without a queue, may be created.
    ///
    /// The subject must lie within an allowed one and not within a denied one. A subject that is
    /// only partly denied is accepted; what is denied is then held back by [`Self::deny_filter`].
    #[must_use]
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.is_allowed(subject, queue) && !self.is_denied(subject, queue)
    }

    /// Rules with queues decide over queue subscriptions if any is about the subject.
    fn is_allowed(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        if !self.subscribe.restricted {
            return true;
        }
        let covering = || {
            self.subscribe
                .allow
                .iter()
                .filter(|rule| is_subset(subject, &rule.subject))
        };
        if queue.is_some() && covering().any(|rule| rule.queue.is_some()) {
            return covering().any(|rule| rule.names_queue(queue));
        }
        covering().any(|rule| rule.queue.is_none())
    }

    fn is_denied(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.subscribe.deny.iter().any(|rule| {
            // `matches` reads wildcards of the subject as they stand, so `a.>` is refused by a
            // denied `a.*` although it is wider, as the reference does.
            (matches(&rule.subject, subject) || is_subset(subject, &rule.subject))
                && (rule.queue.is_none() || rule.names_queue(queue))
        })
    }

    /// For an accepted subscription: the denied subjects it covers, which must be held back on
    /// delivery. `None` when there are none.
    #[must_use]
    pub fn deny_filter(&self, subject: &[u8], queue: Option<&[u8]>) -> Option<Arc<DenyFilter>> {
        let denied: Vec<Box<[u8]>> = self
            .subscribe
            .deny
            .iter()
            .filter(|rule| rule.queue.is_none() || rule.names_queue(queue))
            .filter(|rule| overlaps(&rule.subject, subject))
            .map(|rule| rule.subject.clone())
            .collect();
        (!denied.is_empty()).then(|| Arc::new(DenyFilter { denied }))
    }

    /// The allowance to publish to reply subjects of messages received, if granted.
    #[must_use]
    pub fn responses(&self) -> Option<ResponseOptions> {
        self.responses
    }
}

/// Subjects that must not reach one subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyFilter {
    denied: Vec<Box<[u8]>>,
}

impl DenyFilter {
    /// Whether a message on this literal subject must be held back.
    #[must_use]
    pub fn denies(&self, subject: &[u8]) -> bool {
        self.denied.iter().any(|filter| matches(filter, subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_config::options::SubjectList;

    fn list(allow: &[&str], deny: &[&str]) -> Option<SubjectList> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Some(SubjectList {
            allow: own(allow),
            deny: own(deny),
        })
    }

    #[test]
    fn publish_lists_decide_and_deny_wins() {
        struct Case(
            &'static [&'static str],
            &'static [&'static str],
            bool,
            &'static str,
            bool,
        );
        let cases = [
            Case(&[], &[], false, "x", true),
            Case(&["a.*"], &[], false, "a.b", true),
            Case(&["a.*"], &[], false, "a.*", true),
            Case(&["a.*"], &[], false, "b", false),
            Case(&["a.>"], &["a.b"], false, "a.b", false),
            Case(&[], &["x"], false, "y", true),
            Case(&[], &["x"], false, "x", false),
            Case(&[], &["x"], true, "y", false),
            Case(&["y"], &[], true, "y", true),
        ];
        for Case(allow, deny, responses, subject, expected) in cases {
            let permissions = Permissions::new(&PermissionOptions {
                publish: list(allow, deny),
                subscribe: None,
                allow_responses: responses.then(ResponseOptions::default),
            });
            let found = permissions.can_publish(subject.as_bytes());
            assert_eq!(found, expected, "{allow:?} {deny:?} {responses} {subject}");
        }
    }

    /// Subjects with queues (empty: none) that may and may not be subscribed to.
    struct Subscribing {
        allow: &'static [&'static str],
        deny: &'static [&'static str],
        yes: &'static [(&'static str, &'static str)],
        no: &'static [(&'static str, &'static str)],
    }
    const CASES: &[Subscribing] = &[
        Subscribing {
            allow: &[],
            deny: &[],
            yes: &[(">", ""), ("a", "q")],
            no: &[],
        },
        Subscribing {
            allow: &["svc"],
            deny: &[],
            yes: &[("svc", "")],
            no: &[(">", ""), ("*", "")],
        },
        Subscribing {
            allow: &["in.>"],
            deny: &[],
            yes: &[("in.*.x", ""), ("in.>", "")],
            no: &[],
        },
        Subscribing {
            allow: &["q.>", "q.> g1"],
            deny: &[],
            yes: &[("q.x", ""), ("q.x", "g1"), ("q.*", "")],
            no: &[("q.x", "g2"), (">", ""), ("q", "")],
        },
        Subscribing {
            allow: &["q.> g1"],
            deny: &[],
            yes: &[("q.x", "g1")],
            no: &[("q.x", ""), ("q.x", "g2")],
        },
        Subscribing {
            allow: &[],
            deny: &["q", "q g1"],
            yes: &[("*", ""), ("*", "g1"), (">", "")],
            no: &[("q", ""), ("q", "g1"), ("q", "g2")],
        },
        Subscribing {
            allow: &[],
            deny: &["q.* g.*"],
            yes: &[("q.a", "g"), ("q.a", ""), ("q.*", "")],
            no: &[("q.a", "g.1"), ("q.*", "g.1"), ("q.>", "g.1")],
        },
        Subscribing {
            allow: &["a.>"],
            deny: &["a.b.*"],
            yes: &[("a.>", ""), ("a.b", "")],
            no: &[("a.b.>", ""), ("a.b.*", ""), ("a.b.c", "")],
        },
    ];

    #[test]
    fn subscribe_lists_decide_as_in_the_reference() {
        for case in CASES {
            let permissions = Permissions::new(&PermissionOptions {
                publish: None,
                subscribe: list(case.allow, case.deny),
                allow_responses: None,
            });
            let check = |pairs: &[(&str, &str)], expected: bool| {
                for (subject, queue) in pairs {
                    let queue = Some(queue.as_bytes()).filter(|queue| !queue.is_empty());
                    let found = permissions.can_subscribe(subject.as_bytes(), queue);
                    assert_eq!(
                        found, expected,
                        "{:?} {:?} {subject}",
                        case.allow, case.deny
                    );
                }
            };
            check(case.yes, true);
            check(case.no, false);
        }
    }

    #[test]
    fn denied_parts_of_a_wider_subscription_are_filtered() {
        let permissions = Permissions::new(&PermissionOptions {
            publish: None,
            subscribe: list(&[], &["a.b", "c.> g1", "d"]),
            allow_responses: None,
        });
        let filter = permissions.deny_filter(b">", None).expect("a.b is denied");
        assert!(filter.denies(b"a.b"));
        assert!(!filter.denies(b"a.c"));
        assert!(!filter.denies(b"c.x"));
        let of_group = permissions
            .deny_filter(b">", Some(b"g1"))
            .expect("more is denied");
        assert!(of_group.denies(b"c.x"));
        assert!(permissions.deny_filter(b"b.*", None).is_none());
    }
}
