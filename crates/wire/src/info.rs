//! INFO as the server sends it and CONNECT as clients do (spec core/01 §1.3, §1.4). Which values
//! stand in them is decided by the session.

use crate::json::{JsonError, Strictness, from_slice, to_vec};
use serde::{Deserialize, Serialize};

/// What a server says of itself to clients. Field order is the order on the wire; fields with an
/// `Option` or marked so are left out when absent, false, zero or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    pub server_id: String,
    pub server_name: String,
    /// The reference version we are compatible with: clients choose features by it.
    pub version: String,
    pub proto: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// The reference names its runtime here; it must be present.
    pub go: String,
    pub host: String,
    pub port: i32,
    pub headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Bytes of headers and payload together.
    pub max_payload: i32,
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Lame duck: connect elsewhere.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    #[serde(skip_serializing_if = "is_zero_level")]
    pub api_lvl: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
    /// Our own name and version, e.g. `millrace 0.1.0`. Not a field of the reference.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub implementation: String,
}

impl ServerInfo {
    /// The JSON of the INFO line, escaped as the reference does.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_vec(self)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_zero_level(value: &u32) -> bool {
    *value == 0
}

/// What a client asks for. Defaults are those of a connection that sent no CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ConnectOptions {
    pub verbose: bool,
    pub pedantic: bool,
    pub echo: bool,
    pub tls_required: bool,
    pub headers: bool,
    pub no_responders: bool,
    pub protocol: i64,
    pub name: String,
    pub lang: String,
    pub version: String,
    pub user: String,
    pub pass: String,
    pub auth_token: String,
    pub jwt: String,
    pub nkey: String,
    pub sig: String,
    /// Must be unset: else the login fails.
    pub account: String,
    /// Must be unset: else the login fails.
    pub new_account: bool,
    pub proxy_sig: String,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            user: String::new(),
            pass: String::new(),
            auth_token: String::new(),
            jwt: String::new(),
            nkey: String::new(),
            sig: String::new(),
            account: String::new(),
            new_account: false,
            proxy_sig: String::new(),
        }
    }
}

impl ConnectOptions {
    /// Reads the argument of CONNECT. Absent keys and nulls keep their defaults.
    ///
    /// # Errors
    /// The JSON does not parse or a field has a wrong type: the connection closes silently.
    pub fn parse(json: &[u8]) -> Result<Self, JsonError> {
        from_slice(json, Strictness::Lenient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_takes_what_go_clients_may_send() {
        let options = ConnectOptions::parse(
            br#" {"VERBOSE":false,"pedantic":null,"lang":"a","lang":"b","nonsense":[1,{}],"Protocol":1} "#,
        )
        .expect("tolerated");
        assert_eq!(
            (options.verbose, options.pedantic, options.protocol),
            (false, true, 1)
        );
        assert_eq!(options.lang, "b");
        assert_eq!(
            ConnectOptions::parse(b"{}").expect("empty"),
            ConnectOptions::default()
        );
        assert_eq!(
            ConnectOptions::parse(b"null").expect("null"),
            ConnectOptions::default()
        );
        for bad in [
            &b""[..],
            b"x",
            b"[]",
            b"{\"verbose\":1}",
            b"{\"user\":5}",
            b"{} x",
            b"{\"protocol\":1.0}",
        ] {
            assert!(
                ConnectOptions::parse(bad).is_err(),
                "{}",
                bad.escape_ascii()
            );
        }
    }

    #[test]
    fn info_leaves_out_what_is_empty() {
        let info = ServerInfo {
            server_id: "N".into(),
            proto: 1,
            ..ServerInfo::default()
        };
        assert_eq!(
            String::from_utf8_lossy(&info.to_json()),
            r#"{"server_id":"N","server_name":"","version":"","proto":1,"go":"","host":"","port":0,"headers":false,"max_payload":0}"#
        );
    }
}
