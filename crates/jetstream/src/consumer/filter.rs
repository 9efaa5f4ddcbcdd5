//! The subject filters of a consumer.

/// Any of several subject filters; none means all subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    subjects: Vec<Vec<u8>>,
}

impl Filter {
    /// A filter of these subjects.
    #[must_use]
    pub fn new(subjects: Vec<Vec<u8>>) -> Self {
        Self { subjects }
    }

    /// Whether a literal subject passes.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        self.subjects.is_empty()
            || self
                .subjects
                .iter()
                .any(|filter| token_match(filter, subject))
    }
}

fn token_match(filter: &[u8], subject: &[u8]) -> bool {
    let mut subject_tokens = subject.split(|byte| *byte == b'.');
    for token in filter.split(|byte| *byte == b'.') {
        let other = subject_tokens.next();
        match (token, other) {
            (b">", Some(_)) => return true,
            (b"*", Some(_)) => {}
            (token, Some(other)) if token == other => {}
            _ => return false,
        }
    }
    subject_tokens.next().is_none()
}
