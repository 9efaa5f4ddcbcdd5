//! Reading pull requests: the body of `CONSUMER.MSG.NEXT` and of `+NXT`.

use millrace_wire::json::{JsonError, Strictness, from_slice};
use serde::Deserialize;

/// Highest value of `priority`.
pub(super) const PRIORITY_MAX: i64 = 9;

/// A pull request as the client wrote it. Durations in nanoseconds; 0 = absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename = "Request")]
pub(super) struct RequestBody {
    pub(super) batch: i64,
    pub(super) expires: i64,
    pub(super) no_wait: bool,
    pub(super) max_bytes: i64,
    pub(super) idle_heartbeat: i64,
    pub(super) group: String,
    pub(super) id: String,
    pub(super) min_pending: i64,
    pub(super) min_ack_pending: i64,
    pub(super) priority: i64,
    /// Whether the body was a JSON object: only then priority rules are checked (quirk).
    #[serde(skip)]
    pub(super) is_formal: bool,
}

/// What the reference says about a body: it knows the fields as those of a nameless struct.
fn error_text(error: JsonError) -> String {
    error
        .to_string()
        .replace("struct field Request.", "struct field .")
        .replace("type int64", "type int")
}

impl RequestBody {
    fn simple(batch: i64) -> Self {
        Self {
            batch,
            ..Self::default()
        }
    }

    /// Messages wanted, at least 1.
    pub(super) fn batch(&self) -> u64 {
        u64::try_from(self.batch).unwrap_or(0).max(1)
    }

    /// Reads a body. The error is what follows `400 Bad Request - `.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.trim_ascii();
        if body.first() != Some(&b'{') {
            let number = std::str::from_utf8(body)
                .ok()
                .and_then(|text| text.parse().ok());
            return Ok(Self::simple(number.unwrap_or(1)));
        }
        let mut request: Self = from_slice(body, Strictness::Lenient).map_err(error_text)?;
        request.is_formal = true;
        if request.idle_heartbeat > 0 && request.idle_heartbeat.saturating_mul(2) > request.expires
        {
            return Err("heartbeat value too large".to_owned());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: JS-CON-14
    #[test]
    fn bodies_are_empty_a_number_json_or_anything() {
        for (body, batch) in [
            ("", 1),
            ("5", 5),
            ("x", 1),
            ("0", 1),
            ("-3", 1),
            ("{\"batch\":7}", 7),
            ("{}", 1),
        ] {
            assert_eq!(
                RequestBody::parse(body.as_bytes()).map(|request| request.batch()),
                Ok(batch),
                "{body}"
            );
        }
        let request = RequestBody::parse(br#"{"batch":2,"expires":2000,"idle_heartbeat":1001}"#);
        assert_eq!(request, Err("heartbeat value too large".to_owned()));
        let error = "json: cannot unmarshal string into Go struct field .batch of type int";
        assert_eq!(
            RequestBody::parse(br#"{"batch":"x"}"#),
            Err(error.to_owned())
        );
        let error = "invalid character 'b' looking for beginning of object key string";
        assert_eq!(RequestBody::parse(b"{bad"), Err(error.to_owned()));
    }
}
