//! Tokens, validity and the three relations between subjects: match, subset, overlap.
//! Tables of many filters live in `interest` and `tree`.

/// The byte between two tokens.
pub(crate) const SEPARATOR: u8 = b'.';
/// A whole token of this stands for exactly one token.
pub(crate) const STAR: &[u8] = b"*";
/// A last token of this stands for one or more tokens.
pub(crate) const FULL: &[u8] = b">";

/// The tokens of `subject`, in order. An empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    subject.split(|byte| *byte == SEPARATOR)
}

/// How many tokens `subject` has (at least one).
#[must_use]
pub fn token_count(subject: &[u8]) -> usize {
    subject.iter().filter(|byte| **byte == SEPARATOR).count() + 1
}

/// The rule for SUB (spec core/02 §2.1): no empty token, and `>` only as the last one.
#[must_use]
pub fn is_valid_filter(subject: &[u8]) -> bool {
    let mut full_seen = false;
    tokens(subject).all(|token| {
        let valid = !token.is_empty() && !full_seen;
        full_seen = token == FULL;
        valid
    })
}

/// The rule for configuration, permissions and mappings: a valid filter without blanks
/// (space, tab, CR, LF, FF).
#[must_use]
pub fn is_valid_subject(subject: &[u8]) -> bool {
    is_valid_filter(subject)
        && !subject
            .iter()
            .any(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c))
}

/// Whether no token of `subject` is a wildcard. Says nothing about validity.
#[must_use]
pub fn is_literal(subject: &[u8]) -> bool {
    !has_wildcard(subject)
}

/// Whether some whole token of `subject` is `*`, or its last one `>`.
#[must_use]
pub fn has_wildcard(subject: &[u8]) -> bool {
    // Most subjects have none of the two bytes: look for them before splitting.
    subject.iter().any(|byte| matches!(byte, b'*' | b'>'))
        && tokens(subject).any(|token| token == STAR || token == FULL)
}

/// Whether `subject` may be published to under the strict rule: valid and without wildcards.
#[must_use]
pub fn is_valid_literal(subject: &[u8]) -> bool {
    is_valid_subject(subject) && is_literal(subject)
}

/// Whether `filter` matches the published subject `literal`.
///
/// Wildcards in `literal` are plain tokens; a literal with an empty token matches nothing.
#[must_use]
pub fn matches(filter: &[u8], literal: &[u8]) -> bool {
    let mut wanted = tokens(filter);
    let mut given = tokens(literal);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(token)) => {
                if token.is_empty() {
                    return false;
                }
                if want == FULL {
                    return given.all(|rest| !rest.is_empty());
                }
                if want != STAR && want != token {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether every subject that `subset` matches is matched by `superset` too.
#[must_use]
pub fn is_subset(subset: &[u8], superset: &[u8]) -> bool {
    let mut inner = tokens(subset);
    let mut outer = tokens(superset);
    loop {
        match (inner.next(), outer.next()) {
            (None, None) | (Some(_), Some(FULL)) => return true,
            (Some(FULL), Some(_)) => return false,
            (Some(narrow), Some(wide)) => {
                if wide != STAR && wide != narrow {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether some subject is matched by both `first` and `second`.
#[must_use]
pub fn overlaps(first: &[u8], second: &[u8]) -> bool {
    let mut left = tokens(first);
    let mut right = tokens(second);
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some(FULL), Some(_)) | (Some(_), Some(FULL)) => return true,
            (Some(one), Some(other)) => {
                if one != STAR && other != STAR && one != other {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// A filter for what both `first` and `second` match, or `None` if nothing is. Where only one of two
/// tokens is a wildcard the other one stands.
#[must_use]
pub fn intersection(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    if !overlaps(first, second) {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    let (mut left, mut right) = (tokens(first), tokens(second));
    loop {
        match (left.next(), right.next()) {
            (Some(FULL), Some(other)) => {
                parts.push(other);
                parts.extend(right);
                break;
            }
            (Some(one), Some(FULL)) => {
                parts.push(one);
                parts.extend(left);
                break;
            }
            (Some(one), Some(other)) => parts.push(if one == STAR { other } else { one }),
            _ => break,
        }
    }
    Some(parts.join(&SEPARATOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(name: &str, table: &str, relation: fn(&[u8], &[u8]) -> bool) {
        for line in table
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [relation_name, left, right, expected] = fields[..] else {
                panic!("{line}")
            };
            if relation_name == name {
                let actual = relation(left.as_bytes(), right.as_bytes());
                assert_eq!(actual.to_string(), expected, "{line}");
            }
        }
    }

    #[test]
    fn relations_agree_with_the_table() {
        let table = include_str!("../testdata/relations.txt");
        check("matches", table, matches);
        check("subset", table, is_subset);
        check("overlaps", table, overlaps);
    }

    #[test]
    fn validity_agrees_with_the_table() {
        for line in include_str!("../testdata/validity.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [subject, filter, config, literal] = fields[..] else {
                panic!("{line}")
            };
            let subject = subject.replace("\\s", " ").replace("\\t", "\t");
            let subject = subject.as_bytes();
            assert_eq!(
                is_valid_filter(subject).to_string(),
                filter,
                "filter: {line}"
            );
            assert_eq!(
                is_valid_subject(subject).to_string(),
                config,
                "config: {line}"
            );
            assert_eq!(is_literal(subject).to_string(), literal, "literal: {line}");
        }
    }

    fn any_filter() -> impl Strategy<Value = String> {
        ("[ab*](\\.[ab*]){0,3}(\\.>)?|>").prop_map(|text| text)
    }

    /// Every literal of up to five tokens over a three-letter alphabet.
    fn universe() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        let mut level: Vec<Vec<u8>> = vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
        for _ in 0..5 {
            all.extend(level.iter().cloned());
            level = level
                .iter()
                .flat_map(|prefix| {
                    [b".a", b".b", b".c"].map(|tail| [prefix.as_slice(), tail].concat())
                })
                .collect();
        }
        all
    }

    proptest! {
        #[test]
        fn subset_and_overlap_mean_what_matching_says(first in any_filter(), second in any_filter()) {
            let (first, second) = (first.as_bytes(), second.as_bytes());
            let literals = universe();
            let in_first = |literal: &Vec<u8>| matches(first, literal);
            let in_second = |literal: &Vec<u8>| matches(second, literal);
            prop_assert_eq!(is_subset(first, second), literals.iter().filter(|l| in_first(l)).all(in_second));
            prop_assert_eq!(overlaps(first, second), literals.iter().filter(|l| in_first(l)).any(in_second));
        }

        #[test]
        fn an_intersection_matches_what_both_match(first in any_filter(), second in any_filter()) {
            let (first, second) = (first.as_bytes(), second.as_bytes());
            let found = intersection(first, second);
            for literal in universe() {
                let both = matches(first, &literal) && matches(second, &literal);
                let told = found.as_ref().is_some_and(|filter| matches(filter, &literal));
                prop_assert_eq!(both, told);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(first: Vec<u8>, second: Vec<u8>) {
            let _ = (is_valid_filter(&first), is_valid_subject(&first), is_literal(&first));
            let _ = (matches(&first, &second), is_subset(&first, &second));
            prop_assert_eq!(overlaps(&first, &second), overlaps(&second, &first));
            prop_assert_eq!(tokens(&first).count(), token_count(&first));
        }
    }
}
