//! Subjects of scoped signing keys with functions in them, filled in for one user
//! (spec core/11 §11.3).

use super::claims::{PermissionClaims, SubjectClaims};
use millrace_subject::is_valid_filter;

/// Most subjects that one template may become.
const EXPANSIONS_MAX: usize = 4096;

/// Whose names and tags are filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subjects<'a> {
    pub(super) user_name: &'a str,
    pub(super) user_key: &'a str,
    pub(super) user_tags: &'a [String],
    pub(super) account_name: &'a str,
    pub(super) account_key: &'a str,
    pub(super) account_tags: &'a [String],
}

/// Fills a template in. `None` refuses the login: a denied subject cannot be made, or there would
/// be too many.
pub(super) fn fill_in(
    template: &PermissionClaims,
    subjects: &Subjects<'_>,
) -> Option<PermissionClaims> {
    Some(PermissionClaims {
        publish: fill_in_lists(&template.publish, subjects)?,
        subscribe: fill_in_lists(&template.subscribe, subjects)?,
        responses: template.responses,
    })
}

fn fill_in_lists(lists: &SubjectClaims, subjects: &Subjects<'_>) -> Option<SubjectClaims> {
    let mut allow = Vec::new();
    for text in &lists.allow {
        allow.extend(expand(text, subjects)?);
    }
    let mut deny = Vec::new();
    for text in &lists.deny {
        let made = expand(text, subjects)?;
        if made.is_empty() {
            return None;
        }
        deny.extend(made);
    }
    if allow.is_empty() && !lists.allow.is_empty() {
        // Nothing is left of what was allowed, so nothing is.
        deny.push(">".to_owned());
    }
    Some(SubjectClaims { allow, deny })
}

/// All subjects that a text stands for; none if a tag is missing or a value makes no subject.
/// `None`: too many.
fn expand(text: &str, subjects: &Subjects<'_>) -> Option<Vec<String>> {
    let mut made = vec![String::new()];
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{") {
        let Some((function, after)) = behind.split_once("}}") else {
            break;
        };
        for subject in &mut made {
            subject.push_str(before);
        }
        let values = values_of(function.trim(), subjects);
        if made.len().checked_mul(values.len())? > EXPANSIONS_MAX {
            return None;
        }
        let longer = |subject: &String| {
            let subject = subject.clone();
            values.iter().map(move |value| format!("{subject}{value}"))
        };
        made = made.iter().flat_map(longer).collect();
        rest = after;
    }
    for subject in &mut made {
        subject.push_str(rest);
    }
    made.retain(|subject| {
        let mut parts = subject.split_whitespace();
        parts
            .next()
            .is_some_and(|first| is_valid_filter(first.as_bytes()))
    });
    Some(made)
}

fn values_of(function: &str, subjects: &Subjects<'_>) -> Vec<String> {
    let Some((name, argument)) = function
        .strip_suffix(')')
        .and_then(|function| function.split_once('('))
    else {
        return Vec::new();
    };
    let one = |value: &str| {
        let value = value.to_owned();
        if value.is_empty() {
            Vec::new()
        } else {
            vec![value]
        }
    };
    match name.trim().to_ascii_lowercase().as_str() {
        "name" => one(subjects.user_name),
        "subject" => one(subjects.user_key),
        "account-name" => one(subjects.account_name),
        "account-subject" => one(subjects.account_key),
        "tag" => tagged(subjects.user_tags, argument.trim()),
        "account-tag" => tagged(subjects.account_tags, argument.trim()),
        _ => Vec::new(),
    }
}

/// Values of all tags `name:value`.
fn tagged(tags: &[String], name: &str) -> Vec<String> {
    let value_of = |tag: &String| {
        let (found, value) = tag.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    };
    tags.iter().filter_map(value_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(tags: &[String]) -> Subjects<'_> {
        Subjects {
            user_name: "bob",
            user_key: "UKEY",
            user_tags: tags,
            account_name: "acme",
            account_key: "AKEY",
            account_tags: &[],
        }
    }

    #[test]
    fn functions_become_values_and_products() {
        let tags = ["dept:a".to_owned(), "dept:b".to_owned(), "x:1".to_owned()];
        let cases: &[(&str, &[&str])] = &[
            ("plain.>", &["plain.>"]),
            ("u.{{name()}}", &["u.bob"]),
            ("{{Subject()}}.{{account-name()}}", &["UKEY.acme"]),
            ("{{ account-subject() }}", &["AKEY"]),
            ("d.{{tag(dept)}}.{{TAG(x)}}", &["d.a.1", "d.b.1"]),
            ("d.{{tag(none)}}", &[]),
            ("d.{{account-tag(x)}}", &[]),
            ("d.{{unknown()}}", &[]),
            ("d.{{name()", &["d.{{name()"]),
        ];
        for (text, expected) in cases {
            let made = expand(text, &subjects(&tags)).expect("few enough");
            assert_eq!(made, *expected, "{text}");
        }
    }

    #[test]
    fn a_missing_tag_empties_an_allow_list_and_refuses_a_deny_list() {
        let lists = |allow: &[&str], deny: &[&str]| SubjectClaims {
            allow: allow.iter().map(|text| (*text).to_owned()).collect(),
            deny: deny.iter().map(|text| (*text).to_owned()).collect(),
        };
        let none = subjects(&[]);
        let filled = fill_in_lists(&lists(&["a.{{tag(x)}}"], &[]), &none).expect("no deny");
        assert_eq!(filled, lists(&[], &[">"]));
        assert!(fill_in_lists(&lists(&[], &["a.{{tag(x)}}"]), &none).is_none());
        let many: Vec<String> = (0..100).map(|number| format!("t:{number}")).collect();
        let text = "{{tag(t)}}.{{tag(t)}}";
        assert!(expand(text, &subjects(&many)).is_none());
    }
}
