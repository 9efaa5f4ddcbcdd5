//! Reading single values: texts, numbers, durations, sizes and listen addresses.

use millrace_clock::go_duration;

use super::Decoder;
use crate::language::{Entry, Value};
use crate::options::WriteTimeout;

const SECOND_NS: i64 = 1_000_000_000;
/// Largest size of keys that the reference keeps in 32 bits.
const MAX_INT32: i64 = i32::MAX as i64;

impl Decoder<'_> {
    pub(super) fn text(&mut self, entry: &Entry) -> Option<String> {
        let text = entry.value.as_text().map(str::to_owned);
        if text.is_none() {
            self.mismatch(entry, "string");
        }
        text
    }

    /// A text, of which an empty one says the same as none.
    pub(super) fn set_text(&mut self, entry: &Entry, target: &mut Option<String>) {
        if let Some(text) = self.text(entry) {
            *target = Some(text).filter(|text| !text.is_empty());
        }
    }

    pub(super) fn set_bool(&mut self, entry: &Entry, target: &mut bool) {
        match entry.value {
            Value::Bool(value) => *target = value,
            _ => self.mismatch(entry, "bool"),
        }
    }

    pub(super) fn integer(&mut self, entry: &Entry) -> Option<i64> {
        match entry.value {
            Value::Integer(value) => Some(value),
            _ => {
                self.mismatch(entry, "int64");
                None
            }
        }
    }

    /// A whole number that fits the target's type.
    pub(super) fn set_integer<T: TryFrom<i64>>(&mut self, entry: &Entry, target: &mut T) {
        let Some(value) = self.integer(entry) else {
            return;
        };
        match T::try_from(value) {
            Ok(value) => *target = value,
            Err(_) => self.error(
                entry,
                format!("{} value {value} is out of range", entry.key),
            ),
        }
    }

    /// A whole number of which negative values mean the same as zero.
    pub(super) fn set_at_least_zero<T: TryFrom<i64>>(&mut self, entry: &Entry, target: &mut T) {
        match entry.value {
            Value::Integer(value) if value < 0 => {
                if let Ok(zero) = T::try_from(0) {
                    *target = zero;
                }
            }
            _ => self.set_integer(entry, target),
        }
    }

    /// A size that must fit 31 bits.
    pub(super) fn set_size32(&mut self, entry: &Entry, target: &mut usize) {
        let Some(value) = self.integer(entry) else {
            return;
        };
        if value > MAX_INT32 {
            self.error(
                entry,
                format!("{} value is too big", entry.key.to_ascii_lowercase()),
            );
        } else {
            self.set_integer(entry, target);
        }
    }

    /// A duration in quotes.
    pub(super) fn duration(&mut self, entry: &Entry) -> Option<i64> {
        let text = self.text(entry)?;
        match go_duration::parse(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.error(entry, format!("error parsing {}: {error}", entry.key));
                None
            }
        }
    }

    /// A duration in quotes, or whole seconds with a warning.
    pub(super) fn duration_or_seconds(&mut self, entry: &Entry) -> Option<i64> {
        let Value::Integer(seconds) = entry.value else {
            return self.duration(entry);
        };
        self.warning(
            entry,
            format!("{} should be converted to a duration", entry.key),
        );
        Some(seconds.saturating_mul(SECOND_NS))
    }

    pub(super) fn set_duration_or_seconds(&mut self, entry: &Entry, target: &mut u64) {
        if let Some(duration) = self.duration_or_seconds(entry) {
            self.set_ns(entry, duration, target);
        }
    }

    pub(super) fn set_duration(&mut self, entry: &Entry, target: &mut u64) {
        if let Some(duration) = self.duration(entry) {
            self.set_ns(entry, duration, target);
        }
    }

    fn set_ns(&mut self, entry: &Entry, duration: i64, target: &mut u64) {
        match u64::try_from(duration) {
            Ok(duration) => *target = duration,
            Err(_) => {
                let text = go_duration::format(duration);
                self.error(
                    entry,
                    format!("{} of {text} must not be negative", entry.key),
                );
            }
        }
    }

    /// A timeout: a number of seconds, or a duration in quotes.
    pub(super) fn timeout_ns(&mut self, entry: &Entry, block: &str) -> Option<u64> {
        let duration = match &entry.value {
            Value::Integer(seconds) => seconds.saturating_mul(SECOND_NS),
            Value::Float(seconds) => {
                // The cast saturates, which is far beyond any useful timeout.
                (seconds * SECOND_NS as f64) as i64
            }
            Value::Text(text) => match go_duration::parse(text) {
                Ok(duration) => duration,
                Err(error) => {
                    let text = format!("error parsing {block} config, 'timeout' {error}");
                    self.error(entry, text);
                    return None;
                }
            },
            _ => {
                self.error(
                    entry,
                    format!("error parsing {block} config, 'timeout' wrong type"),
                );
                return None;
            }
        };
        let mut timeout_ns = None;
        match u64::try_from(duration) {
            Ok(duration) => timeout_ns = Some(duration),
            Err(_) => self.error(entry, format!("{block} timeout must not be negative")),
        }
        timeout_ns
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&mut self, entry: &Entry) -> Vec<String> {
        match &entry.value {
            Value::Text(text) => vec![text.clone()],
            Value::Array(elements) => elements
                .iter()
                .filter_map(|element| self.text(element))
                .collect(),
            _ => {
                self.mismatch(entry, "[]interface {}");
                Vec::new()
            }
        }
    }

    /// What happens to a connection that does not take its bytes in time.
    pub(super) fn write_timeout(&mut self, entry: &Entry) -> Option<WriteTimeout> {
        match self.text(entry)?.as_str() {
            "default" | "" => Some(WriteTimeout::Default),
            "close" => Some(WriteTimeout::Close),
            "retry" => Some(WriteTimeout::Retry),
            _ => {
                self.error(entry, "write_timeout must be 'default', 'close' or 'retry'");
                None
            }
        }
    }

    /// `port`, `host:port` or `:port`; what is not said stays as it is.
    pub(super) fn listen(&mut self, entry: &Entry, host: &mut String, port: &mut i32) {
        match &entry.value {
            Value::Integer(_) => self.set_integer(entry, port),
            Value::Text(text) => match parse_listen(text) {
                Ok((new_host, new_port)) => {
                    new_host.clone_into(host);
                    *port = new_port;
                }
                Err(error) => self.error(entry, error),
            },
            other => {
                let error = format!("expected port or host:port, got {}", other.type_name());
                self.error(entry, error);
            }
        }
    }
}

/// Splits `host:port`; an IPv6 host stands in brackets.
pub(crate) fn parse_listen(text: &str) -> Result<(&str, i32), String> {
    let bad_address = || format!("could not parse address string {text:?}");
    let (host, port) = text.rsplit_once(':').ok_or_else(bad_address)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(bad_address)?,
        None if host.contains(':') => return Err(bad_address()),
        None => host,
    };
    match port.trim().parse() {
        Ok(port) => Ok((host, port)),
        Err(_) => Err(format!("could not parse port {port:?}")),
    }
}

/// A JetStream size: digits with `K`, `M`, `G` or `T`, powers of 1024.
pub(crate) fn parse_storage_size(text: &str) -> Result<i64, String> {
    const SHIFTS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let found = SHIFTS
        .iter()
        .find_map(|(suffix, shift)| text.strip_suffix(*suffix).map(|digits| (digits, *shift)));
    let Some((digits, shift)) = found else {
        return Err("sizes defined as strings must end in K, M, G, T".to_owned());
    };
    digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("{text:?} is not a size"))
}
