//! Distinguished names as people write them into a configuration, compared as structures: blanks
//! around commas and the case of attribute types say nothing (spec core/04 §4.3).

/// The attributes of a name in the order in which they are written; types in upper case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DistinguishedName(Vec<(String, String)>);

impl DistinguishedName {
    /// Reads `CN=a, OU=b+O=c`, with escapes by backslash; `None` if it is no such name.
    #[must_use]
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut attributes = Vec::new();
        for part in split(text) {
            let (kind, value) = part.split_once('=')?;
            let kind = kind.trim().to_ascii_uppercase();
            let is_kind = kind
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
            if kind.is_empty() || !is_kind {
                return None;
            }
            attributes.push((kind, unescaped(value.trim())?));
        }
        (!attributes.is_empty()).then_some(Self(attributes))
    }

    /// Whether both have the same attributes, in any order.
    #[must_use]
    pub(crate) fn has_same_attributes(&self, other: &Self) -> bool {
        let sorted = |name: &Self| {
            let mut attributes = name.0.clone();
            attributes.sort();
            attributes
        };
        sorted(self) == sorted(other)
    }
}

/// Splits at commas, semicolons and plus signs that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut is_escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b',' | b';' | b'+' => {
                parts.extend(text.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(begin..));
    parts
}

/// The value without its escapes; `None` if the last one has nothing behind it.
fn unescaped(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        out.push(match character {
            '\\' => rest.next()?,
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::DistinguishedName;

    #[test]
    fn names_are_compared_by_their_attributes() {
        let read = |text| DistinguishedName::read(text).expect("a name");
        let name = read("CN=localhost,OU=NATS\\, Inc.,O=x");
        assert_eq!(read("cn = localhost , OU=NATS\\, Inc. , O=x"), name);
        let turned = read("O=x,OU=NATS\\, Inc.,CN=localhost");
        assert_ne!(turned, name);
        assert!(turned.has_same_attributes(&name));
        assert!(!read("CN=localhost").has_same_attributes(&name));
        for text in ["", "derek", "=x", "a b=c", "CN=a,,", "CN=a\\"] {
            assert_eq!(DistinguishedName::read(text), None, "{text}");
        }
    }
}
