//! The query string of a monitoring request, with the reference's refusals.

use std::collections::BTreeMap;

use serde_json::Value;

use super::MonitorAnswer;

/// Parameters by name; the first of a name counts.
pub(crate) struct Query(BTreeMap<String, String>);

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

    /// Options of a system request. `account`, if given, is the only one it may see.
    pub(crate) fn from_json(options: &Value, account: Option<&str>) -> Self {
        let mut query = Self(BTreeMap::new());
        for (name, value) in options.as_object().into_iter().flatten() {
            let text = match value {
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::String(text) => text.clone(),
                Value::Array(elements) => {
                    let texts = elements.iter().filter_map(Value::as_str);
                    texts.collect::<Vec<_>>().join(",")
                }
                Value::Null | Value::Object(_) => continue,
            };
            match (name.as_str(), text.as_str()) {
                ("subscriptions_detail", "true") => query.set("subs", "detail"),
                ("subscriptions_detail", _) => {}
                // Detail says more than names.
                ("subscriptions", _) => {
                    query.0.entry("subs".to_owned()).or_insert(text);
                }
                ("account", _) => query.set("acc", &text),
                ("consumer", _) => query.set("consumers", &text),
                ("direct_consumer", _) => query.set("direct-consumers", &text),
                ("leader_only", _) => query.set("leader-only", &text),
                ("stream_leader_only", _) => query.set("stream-leader-only", &text),
                ("filter", _) => query.set("queues", &text),
                ("include_unused", _) => query.set("unused", &text),
                ("state", "0") => query.set("state", "open"),
                ("state", "1") => query.set("state", "closed"),
                ("state", "2") => query.set("state", "all"),
                _ => query.set(name, &text),
            }
        }
        if let Some(account) = account {
            query.set("acc", account);
        }
        query
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// The parts of a parameter between commas.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.text(name)
            .map(|text| text.split(',').collect())
            .unwrap_or_default()
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
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

    /// The id of a connection, if one is asked for.
    pub(super) fn connection(&self) -> Result<Option<u64>, MonitorAnswer> {
        let Some(text) = self.text("cid") else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            let text = format!(
                "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"{text}\": invalid \
                 syntax"
            );
            MonitorAnswer::text(400, &text)
        })
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
