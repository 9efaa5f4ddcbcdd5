//! Who may look at the monitoring port: one user with a password, or a token, in the
//! `Authorization` header. Secrets are plain or bcrypt hashes.

use data_encoding::BASE64;
use millrace_config::options::MonitorOptions;
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a refusal takes: guessing is slow, and more so because connections are few.
const REFUSAL_DELAY: Duration = Duration::from_millis(300);

/// The secrets, ready for comparison.
#[derive(Debug)]
pub(super) struct Guard {
    user: Option<(String, Secret)>,
    token: Option<Secret>,
    /// The header that a slow comparison let in last, as a digest, so that the next request with it is
    /// quick. A lock, because the comparison ends on another thread; it is held for a copy.
    known: Mutex<Option<[u8; 32]>>,
    /// One slow comparison at a time, so that they cannot take the processor from the event loop.
    slow: Semaphore,
}

#[derive(Clone, Debug)]
enum Secret {
    /// The digest of a plain text: of one length, whatever the text's.
    Plain([u8; 32]),
    Bcrypt(String),
}

impl Secret {
    fn new(text: &str) -> Self {
        if millrace_auth::is_bcrypt(text) {
            Self::Bcrypt(text.to_owned())
        } else {
            Self::Plain(digest(text.as_bytes()))
        }
    }

    const fn is_slow(&self) -> bool {
        matches!(self, Self::Bcrypt(_))
    }

    fn fits(&self, given: &str) -> bool {
        match self {
            Self::Plain(expected) => same(expected, &digest(given.as_bytes())),
            Self::Bcrypt(hash) => bcrypt::verify(given, hash).unwrap_or(false),
        }
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Compares in a time that does not depend on where the difference is.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |difference, (one, other)| difference | (one ^ other));
    std::hint::black_box(difference) == 0
}

impl Guard {
    /// `None`: the port is open to all.
    pub(super) fn new(options: &MonitorOptions) -> Option<Arc<Self>> {
        let user = options.user.clone().zip(options.password.as_deref());
        let guard = Self {
            user: user.map(|(user, password)| (user, Secret::new(password))),
            token: options.token.as_deref().map(Secret::new),
            known: Mutex::new(None),
            slow: Semaphore::new(1),
        };
        options.has_authentication().then(|| Arc::new(guard))
    }

    /// Whether whoever sent this `Authorization` header may look. Refusals take their time.
    pub(super) async fn admits(self: &Arc<Self>, header: Option<&str>) -> bool {
        let is_admitted = match header {
            Some(header) => self.fits(header).await,
            // A browser asks first without: nobody guesses here.
            None => return false,
        };
        if !is_admitted {
            tokio::time::sleep(REFUSAL_DELAY).await;
        }
        is_admitted
    }

    async fn fits(self: &Arc<Self>, header: &str) -> bool {
        let seen = digest(header.as_bytes());
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|known| same(&known, &seen)) {
            return true;
        }
        let Some((secret, given)) = self.claim(header) else {
            return false;
        };
        if !secret.is_slow() {
            return secret.fits(&given);
        }
        let Ok(_turn) = self.slow.acquire().await else {
            return false;
        };
        let compared = tokio::task::spawn_blocking(move || secret.fits(&given)).await;
        let fits = compared.unwrap_or(false);
        if fits {
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
        fits
    }

    /// What a header claims to know, and the secret that it must fit.
    fn claim(&self, header: &str) -> Option<(Secret, String)> {
        let (scheme, value) = header.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some((self.token.clone()?, value.trim().to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = BASE64.decode(value.trim().as_bytes()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        if let Some((expected, secret)) = &self.user
            && same(&digest(expected.as_bytes()), &digest(user.as_bytes()))
        {
            return Some((secret.clone(), password.to_owned()));
        }
        // A browser can only send a name and a password: the token may be either.
        let token = self.token.clone()?;
        let given = if password.is_empty() { user } else { password };
        Some((token, given.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(options: &MonitorOptions, header: Option<&str>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let guard = Guard::new(options).unwrap();
        runtime.block_on(async {
            let first = guard.admits(header).await;
            // The second answer comes from memory where the comparison is slow.
            assert_eq!(guard.admits(header).await, first);
            first
        })
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text.as_bytes()))
    }

    #[test]
    fn a_user_with_a_password_or_a_token_gets_in() {
        let options = MonitorOptions {
            user: Some("ann".to_owned()),
            password: Some("secret".to_owned()),
            token: Some("t0ken".to_owned()),
            ..MonitorOptions::default()
        };
        for (header, expected) in [
            (basic("ann:secret"), true),
            (basic("ann:secret2"), false),
            (basic("bob:secret"), false),
            (basic("x:t0ken"), true),
            ("Bearer t0ken".to_owned(), true),
            ("Bearer secret".to_owned(), false),
            ("Basic %%%".to_owned(), false),
            ("nonsense".to_owned(), false),
        ] {
            assert_eq!(admits(&options, Some(&header)), expected, "{header}");
        }
        assert!(!admits(&options, None));
    }

    #[test]
    fn a_password_may_be_a_hash() {
        let options = MonitorOptions {
            user: Some("ann".to_owned()),
            password: Some(bcrypt::hash("secret", 4).unwrap()),
            ..MonitorOptions::default()
        };
        assert!(admits(&options, Some(&basic("ann:secret"))));
        assert!(!admits(&options, Some(&basic("ann:other"))));
        let hash = options.password.clone().unwrap();
        assert!(!admits(&options, Some(&basic(&format!("ann:{hash}")))));
    }

    #[test]
    fn without_secrets_there_is_no_guard() {
        assert!(Guard::new(&MonitorOptions::default()).is_none());
    }
}
