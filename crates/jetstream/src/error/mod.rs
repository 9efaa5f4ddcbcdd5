//! The errors of the JetStream API as values. The list itself is generated (`error/table.rs`);
//! which error applies when is decided where the rules are (`model`, `stream`, `batch`, `consumer`).

mod table;

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeStruct, Serializer};

pub use table::ErrorCode;

/// The lowest `err_code` of the table.
const FIRST_CODE: u16 = 10002;

impl ErrorCode {
    /// The `err_code` clients see, 10002 and up.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    fn row(self) -> &'static table::Row {
        // A test proves that every variant finds its own row.
        let position = usize::from(self.number() - FIRST_CODE);
        table::TABLE.get(position).unwrap_or(&table::TABLE[0])
    }

    /// The HTTP-like `code` that goes with it.
    #[must_use]
    pub fn http_code(self) -> u16 {
        self.row().1
    }

    /// The text as listed, placeholders unfilled.
    #[must_use]
    pub fn template(self) -> &'static str {
        self.row().2
    }

    /// The error whose text needs no filling.
    #[must_use]
    pub fn plain(self) -> ApiError {
        ApiError {
            kind: self,
            description: Cow::Borrowed(self.template()),
        }
    }

    /// The error with its first placeholder (`{err}`, `{seq}`, `{limit}` …) replaced by `value`.
    #[must_use]
    pub fn with(self, value: impl std::fmt::Display) -> ApiError {
        let template = self.template();
        let description = match (template.find('{'), template.find('}')) {
            (Some(open), Some(close)) if open < close => {
                format!("{}{value}{}", &template[..open], &template[close + 1..])
            }
            _ => return self.plain(),
        };
        ApiError {
            kind: self,
            description: Cow::Owned(description),
        }
    }

    /// The error with both placeholders of its text replaced, in order.
    #[must_use]
    pub fn with_two(
        self,
        first: impl std::fmt::Display,
        second: impl std::fmt::Display,
    ) -> ApiError {
        let mut rest = self.template();
        let mut text = String::new();
        for value in [first.to_string(), second.to_string()] {
            let (Some(open), Some(close)) = (rest.find('{'), rest.find('}')) else {
                break;
            };
            text.push_str(&rest[..open]);
            text.push_str(&value);
            rest = &rest[close + 1..];
        }
        text.push_str(rest);
        ApiError {
            kind: self,
            description: Cow::Owned(text),
        }
    }
}

/// An error as an answer carries it: `{"code":404,"err_code":10059,"description":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Which error.
    pub kind: ErrorCode,
    /// Its text, placeholders filled.
    pub description: Cow<'static, str>,
}

impl ApiError {
    /// The HTTP-like code.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.kind.http_code()
    }

    /// The `err_code`.
    #[must_use]
    pub fn err_code(&self) -> u16 {
        self.kind.number()
    }
}

impl From<ErrorCode> for ApiError {
    fn from(kind: ErrorCode) -> Self {
        kind.plain()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.description, self.err_code())
    }
}

impl std::error::Error for ApiError {}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ApiError", 3)?;
        fields.serialize_field("code", &self.code())?;
        fields.serialize_field("err_code", &self.err_code())?;
        fields.serialize_field("description", &self.description)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_finds_its_own_row() {
        for (position, row) in table::TABLE.iter().enumerate() {
            assert_eq!(
                usize::from(row.0.number()),
                position + usize::from(FIRST_CODE)
            );
            assert_eq!(row.0.template(), row.2);
        }
        assert_eq!(table::TABLE.len(), 227);
    }

    #[test]
    fn placeholders_are_filled_in_order() {
        assert_eq!(
            ErrorCode::StreamWrongLastSequence.with(7).description,
            "wrong last sequence: 7"
        );
        let two = ErrorCode::StreamExternalApiOverlap.with_two("a.b", "$JS.API");
        assert_eq!(
            two.description,
            "stream external api prefix a.b must not overlap with $JS.API"
        );
        let json = serde_json::to_string(&ErrorCode::StreamNotFound.plain()).expect("serialises");
        assert_eq!(
            json,
            r#"{"code":404,"err_code":10059,"description":"stream not found"}"#
        );
    }
}
