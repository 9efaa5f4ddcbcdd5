//! The query string of a monitoring request, with the reference's refusals.

use std::collections::BTreeMap;

use super::MonitorAnswer;

/// Parameters by name; the first of a name counts.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters
                .entry(decode(name))
                .or_insert_with(|| decode(value));
        }
        Self(parameters)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// A flag as Go's `ParseBool` reads it; absent or empty means false.
    pub(super) fn flag(&self, name: &str) -> Result<bool, MonitorAnswer> {
        match self.text(name) {
            None => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(MonitorAnswer::text(
                400,
                &format!(
                    "Error decoding boolean for '{name}': strconv.ParseBool: parsing \"{other}\": \
                     invalid syntax"
                ),
            )),
        }
    }

    pub(super) fn number(&self, name: &str, default: usize) -> Result<usize, MonitorAnswer> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.parse::<i64>() {
            Ok(number) => Ok(usize::try_from(number).unwrap_or(0)),
            Err(_) => Err(MonitorAnswer::text(
                400,
                &format!(
                    "Error decoding int for '{name}': strconv.Atoi: parsing \"{text}\": invalid \
                     syntax"
                ),
            )),
        }
    }
}

/// Percent-decoding with `+` as a blank; broken escapes stay as they are.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(byte) = bytes.get(position) {
        let escaped = bytes
            .get(position + 1..position + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, escaped) {
            (b'%', Some(value)) => {
                decoded.push(value);
                position += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (other, _) => decoded.push(*other),
        }
        position += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        let query = Query::parse("acc=%24G&x=a+b&y=%zz&empty=&acc=second");
        assert_eq!(query.text("acc"), Some("$G"));
        assert_eq!(query.text("x"), Some("a b"));
        assert_eq!(query.text("y"), Some("%zz"));
        assert_eq!(query.text("empty"), None);
    }

    #[test]
    fn a_bad_flag_is_refused_as_the_reference_does() {
        let refusal = Query::parse("subs=maybe").flag("subs").unwrap_err();
        assert_eq!(refusal.status, 400);
        assert!(
            refusal
                .body
                .starts_with(b"Error decoding boolean for 'subs'")
        );
    }
}
