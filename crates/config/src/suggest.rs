//! "Did you mean": the known name closest to an unknown one.

/// Longest name that is compared; longer ones get no suggestion.
const MAX_LENGTH: usize = 64;

/// The candidate that differs from `name` by the fewest edits, if they are few enough.
pub(crate) fn closest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(&name, candidate), candidate))
        .filter(|(edits, candidate)| {
            *edits <= allowed && *edits < candidate.len() && *edits < name.len()
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *cb && *ca == b[j - 1] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["port", "host", "max_payload", "max_pending", "http"];
        let cases = [
            ("prot", Some("port")),
            ("Port2", Some("port")),
            ("max_paylaod", Some("max_payload")),
            ("maxpending", Some("max_pending")),
            ("x", None),
            ("zebra", None),
        ];
        for (name, expected) in cases {
            assert_eq!(closest(name, known.iter().copied()), expected, "{name}");
        }
    }
}
