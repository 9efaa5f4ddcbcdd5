//! The dashboard: one page without anything from elsewhere, put together from its three sources. The
//! browser is told to run this script and no other, and to talk to this server only.

use data_encoding::BASE64;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue, REFERRER_POLICY};
use sha2::{Digest as _, Sha256};

const PAGE: &str = include_str!("dashboard/page.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");

/// The page as it is served.
#[derive(Debug)]
pub(super) struct Dashboard {
    page: Vec<u8>,
    policy: HeaderValue,
    /// It may publish and read messages.
    pub(super) has_actions: bool,
}

impl Dashboard {
    pub(super) fn new(has_actions: bool) -> Self {
        let switch = if has_actions { "on" } else { "off" };
        let page = PAGE
            .replacen("<html ", &format!("<html data-actions=\"{switch}\" "), 1)
            .replacen("/*STYLE*/", STYLE, 1)
            .replacen("/*SCRIPT*/", SCRIPT, 1);
        let script = page
            .split_once("<script>")
            .and_then(|(_, rest)| rest.split_once("</script>"))
            .map_or("", |(script, _)| script);
        let hash = BASE64.encode(&Sha256::digest(script.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; \
             connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
        );
        Self {
            page: page.into_bytes(),
            policy: HeaderValue::from_str(&policy)
                .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'")),
            has_actions,
        }
    }

    pub(super) fn page(&self) -> Vec<u8> {
        self.page.clone()
    }

    pub(super) fn protect(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_all_of_its_parts_and_nothing_from_elsewhere() {
        let page = String::from_utf8(Dashboard::new(true).page()).unwrap();
        assert!(page.contains("data-actions=\"on\""));
        assert!(page.contains("--ground"));
        assert!(page.contains("function parseMetrics"));
        assert!(!page.contains("/*STYLE*/") && !page.contains("/*SCRIPT*/"));
        // The one address in it names SVG and is never asked.
        let foreign =
            page.matches("http").count() - page.matches("http://www.w3.org/2000/svg").count();
        assert_eq!(foreign, 0);
        assert!(
            !page.contains("innerHTML"),
            "texts of others are never HTML"
        );
    }
}
