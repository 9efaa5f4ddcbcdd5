//! Subject transforms: a source filter and a destination with mapping functions
//! (spec jetstream/01 §5). Parsing of destination tokens is in `destination`; weights and
//! account mappings are the broker's.

use crate::destination::{Function, is_function, is_wildcard_function, parse_token};
use crate::token::{FULL, SEPARATOR, STAR, is_valid_filter, is_valid_subject, matches, tokens};
use millrace_clock::Random;

/// Why a transform cannot be made. The texts are those of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The source is not a subject, the destination has a `*`, or only one of them has a `>`.
    #[error("invalid subject")]
    BadSubject,
    /// The destination has an empty token or a blank outside a function.
    #[error("invalid mapping destination: invalid transform")]
    BadDestination,
    /// A wildcard index that the source does not have.
    #[error("invalid mapping destination: wildcard index out of range in {0}")]
    IndexOutOfRange(String),
    /// `{{name(..)}}` with a name that is none of the functions.
    #[error("invalid mapping destination: unknown function in {0}")]
    UnknownFunction(String),
    /// Too few arguments.
    #[error("invalid mapping destination: not enough arguments passed to the function in {0}")]
    NotEnoughArguments(String),
    /// Too many arguments.
    #[error("invalid mapping destination: too many arguments passed to the function in {0}")]
    TooManyArguments(String),
    /// An argument that is not a number in range.
    #[error(
        "invalid mapping destination: function argument is invalid or in the wrong format in {0}"
    )]
    InvalidArgument(String),
    /// An import must be reversible: only whole wildcards move.
    #[error(
        "invalid mapping destination: the only mapping function allowed for import transforms is \
         {{{{Wildcard()}}}} in {0}"
    )]
    NotReversible(String),
    /// An import must be reversible: no wildcard of the source may get lost.
    #[error("invalid mapping destination: not using all of the token wildcard(s) in {0}")]
    UnusedWildcards(String),
}

/// A checked transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: Vec<u8>,
    destination: Vec<u8>,
    parts: Vec<Function>,
}

impl Transform {
    /// Checks `source` and `destination`. An empty source means `>`; a caller that allows an
    /// empty destination ("filter only") must not ask for a transform.
    ///
    /// # Errors
    /// [`TransformError`] with the reference's texts.
    pub fn new(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        let source = if source.is_empty() { FULL } else { source };
        if !is_valid_subject(source) {
            return Err(TransformError::BadSubject);
        }
        if !is_valid_filter(destination)
            || tokens(destination).any(|token| !is_function(token) && !is_valid_subject(token))
        {
            return Err(TransformError::BadDestination);
        }
        let ends_full = |subject: &[u8]| tokens(subject).next_back() == Some(FULL);
        if tokens(destination).any(|token| token == STAR)
            || ends_full(source) != ends_full(destination)
        {
            return Err(TransformError::BadSubject);
        }
        let stars: Vec<usize> = tokens(source)
            .enumerate()
            .filter(|(_, token)| *token == STAR)
            .map(|(index, _)| index)
            .collect();
        let parts = tokens(destination)
            .map(|token| parse_token(token, &stars))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            source: source.to_vec(),
            destination: destination.to_vec(),
            parts,
        })
    }

    /// As [`Self::new`] for an import, whose subjects must be mapped in both directions: nothing
    /// but wildcards moves, and none gets lost.
    ///
    /// # Errors
    /// [`TransformError`] with the reference's texts.
    pub fn for_import(source: &[u8], destination: &[u8]) -> Result<Self, TransformError> {
        let transform = Self::new(source, destination)?;
        let mut used = 0;
        for (part, token) in transform.parts.iter().zip(tokens(destination)) {
            match part {
                Function::Literal(_) | Function::Rest => {}
                Function::Wildcard { .. } => used += 1,
                _ => {
                    let token = String::from_utf8_lossy(token).into_owned();
                    return Err(TransformError::NotReversible(token));
                }
            }
        }
        if used < tokens(source).filter(|token| *token == STAR).count() {
            let text = String::from_utf8_lossy(destination).into_owned();
            return Err(TransformError::UnusedWildcards(text));
        }
        Ok(transform)
    }

    /// The way back of a transform made by [`Self::for_import`]: the wildcards of the old source are
    /// filled with the old destination's in the order in which they stand there, as the reference
    /// does. `None` if that is no transform.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        let (source, mut wildcards) = without_references(&self.destination);
        wildcards.reverse();
        let mut destination = Vec::with_capacity(self.source.len());
        for (index, token) in tokens(&self.source).enumerate() {
            if index > 0 {
                destination.push(SEPARATOR);
            }
            if token == STAR {
                destination.extend_from_slice(&wildcards.pop()?);
            } else {
                destination.extend_from_slice(token);
            }
        }
        Self::for_import(&source, &destination).ok()
    }

    /// The source filter as given (`>` for an empty one).
    #[must_use]
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The destination as given.
    #[must_use]
    pub fn destination(&self) -> &[u8] {
        &self.destination
    }

    /// The mapped subject, or `None` if `subject` does not match the source.
    ///
    /// `random` is drawn from only by `{{random(n)}}`.
    #[must_use]
    pub fn apply(&self, subject: &[u8], random: &mut Random) -> Option<Vec<u8>> {
        if !matches(&self.source, subject) {
            return None;
        }
        let given: Vec<&[u8]> = tokens(subject).collect();
        let mut out = Vec::with_capacity(subject.len() + self.destination.len());
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                out.push(SEPARATOR);
            }
            if *part == Function::Rest {
                let consumed = tokens(&self.source).count() - 1;
                out.extend_from_slice(&given[consumed..].join(&SEPARATOR));
            } else {
                part.append(subject, &given, random, &mut out);
            }
        }
        Some(out)
    }
}

/// `subject` with its wildcards written as references: `a.*.*` becomes `a.$1.$2`.
#[must_use]
pub fn with_references(subject: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(subject.len() + 4);
    let mut count = 0;
    for (index, token) in tokens(subject).enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        if token == STAR {
            count += 1;
            out.push(b'$');
            out.extend_from_slice(count.to_string().as_bytes());
        } else {
            out.extend_from_slice(token);
        }
    }
    out
}

/// `subject` with its references written as wildcards, and the references in their order.
#[must_use]
pub fn without_references(subject: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut out = Vec::with_capacity(subject.len());
    let mut references = Vec::new();
    for (index, token) in tokens(subject).enumerate() {
        if index > 0 {
            out.push(SEPARATOR);
        }
        let is_number = matches!(token, [b'$', b'1'..=b'9', ..]);
        if is_number || is_wildcard_function(token) {
            references.push(token.to_vec());
            out.extend_from_slice(STAR);
        } else {
            out.extend_from_slice(token);
        }
    }
    (out, references)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn transforms_of_imports_lose_nothing_and_go_back() {
        let text = |source: &str, destination: &str| {
            Transform::for_import(source.as_bytes(), destination.as_bytes())
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            text("s.*.*", "x.$1"),
            Err(
                "invalid mapping destination: not using all of the token wildcard(s) in x.$1"
                    .into()
            )
        );
        assert_eq!(
            text("s.*", "x.{{partition(3,1)}}"),
            Err(
                "invalid mapping destination: the only mapping function allowed for import \
                 transforms is {{Wildcard()}} in {{partition(3,1)}}"
                    .into()
            )
        );
        let back = text("s.*.*.>", "x.$2.{{wildcard(1)}}.>")
            .expect("valid")
            .reversed()
            .expect("reversible");
        let mapped = back.apply(b"x.b.a.c.d", &mut Random::new(1));
        assert_eq!(mapped.as_deref(), Some(&b"s.a.b.c.d"[..]));
        assert_eq!(with_references(b"a.*.b.*"), b"a.$1.b.$2");
        assert_eq!(
            without_references(b"a.$2.$JS.{{wildcard(1)}}").0,
            b"a.*.$JS.*"
        );
    }

    #[test]
    fn transforms_agree_with_the_table() {
        for line in include_str!("../testdata/transforms.txt").lines() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [source, destination, subject, expected] = fields[..] else {
                panic!("{line}")
            };
            let actual = match Transform::new(source.as_bytes(), destination.as_bytes()) {
                Err(error) => error.to_string(),
                Ok(transform) => transform
                    .apply(subject.as_bytes(), &mut Random::new(1))
                    .map_or_else(
                        || "no match".to_owned(),
                        |mapped| String::from_utf8_lossy(&mapped).into_owned(),
                    ),
            };
            assert_eq!(actual, expected, "{line}");
        }
    }

    #[test]
    fn random_stays_in_range() {
        let transform = Transform::new(b"a", b"a.{{random(3)}}").expect("valid");
        let mut random = Random::new(9);
        for _ in 0..100 {
            let mapped = transform.apply(b"a", &mut random).expect("matches");
            assert!([&b"a.0"[..], b"a.1", b"a.2"].contains(&mapped.as_slice()));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_transforms_never_panic(source: Vec<u8>, destination in "[a.*>$0-9{}(), -]{0,30}|.{0,30}", subject: Vec<u8>) {
            if let Ok(transform) = Transform::new(&source, destination.as_bytes()) {
                let _ = transform.apply(&subject, &mut Random::new(1));
            }
            if let Ok(transform) = Transform::new(b"*.*", destination.as_bytes()) {
                let _ = transform.apply(b"x.y", &mut Random::new(1));
            }
        }
    }
}
