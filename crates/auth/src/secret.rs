//! Comparing secrets: passwords and tokens.

/// Whether a stored password or token is a bcrypt hash: `$2a$NN$` and the like.
pub fn is_bcrypt(stored: &str) -> bool {
    matches!(
        stored.as_bytes(),
        [
            b'$',
            b'2',
            b'a' | b'b' | b'x' | b'y',
            b'$',
            b'0'..=b'9',
            b'0'..=b'9',
            b'$',
            ..
        ]
    )
}

/// Compares in a time that depends on the lengths only.
pub(crate) fn equal(stored: &str, given: &str) -> bool {
    let (stored, given) = (stored.as_bytes(), given.as_bytes());
    let difference = stored.iter().zip(given).fold(0, |difference, (a, b)| {
        // Keeps the compiler from leaving the loop early.
        std::hint::black_box(difference | (a ^ b))
    });
    stored.len() == given.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bcrypt_hashes_are_told_from_passwords() {
        for hash in ["$2a$11$x", "$2b$04$", "$2x$10$y", "$2y$99$"] {
            assert!(is_bcrypt(hash), "{hash}");
        }
        for plain in ["", "$2c$11$x", "$2a$1$x", "$2a$11", "x$2a$11$x"] {
            assert!(!is_bcrypt(plain), "{plain}");
        }
    }

    #[test]
    fn comparison_needs_every_byte() {
        assert!(equal("abc", "abc"));
        assert!(equal("", ""));
        assert!(!equal("abc", "abd"));
        assert!(!equal("abc", "ab"));
        assert!(!equal("ab", "abc"));
    }
}
