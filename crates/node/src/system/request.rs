//! System requests as they come in: what a subject asks for, and options in JSON.

use serde_json::{Map, Value};

use crate::monitor::MonitorAnswer;

/// About what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope<'a> {
    /// Every server that hears it.
    AllServers,
    /// The server with this id.
    Server(&'a str),
    /// An account by name; `PING` means all.
    Account(&'a str),
    /// The user who asks.
    User,
    /// The account tokens of all servers.
    Claims,
    /// Who would get a message.
    Subscribers,
}

/// A request subject taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject<'a> {
    pub(super) scope: Scope<'a>,
    /// `VARZ`, `CONNZ` and so on.
    pub(super) what: &'a str,
}

/// Why there is an error instead of data.
pub(super) struct Refusal(pub(super) String);

impl<'a> Subject<'a> {
    pub(super) fn read(subject: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(subject).ok()?;
        // Updates of tokens have an older name, too.
        let rest = text
            .strip_prefix("$SYS.REQ.")
            .or_else(|| text.strip_prefix("$SYS."))?;
        let mut tokens = rest.splitn(3, '.');
        let (scope, name, what) = (tokens.next()?, tokens.next()?, tokens.next());
        let scope = match scope {
            "SERVER" if name == "PING" => Scope::AllServers,
            "SERVER" => Scope::Server(name),
            "ACCOUNT" => Scope::Account(name),
            "USER" if name == "INFO" => Scope::User,
            "DEBUG" if name == "SUBSCRIBERS" => Scope::Subscribers,
            "CLAIMS" => {
                return Some(Self {
                    scope: Scope::Claims,
                    what: name,
                });
            }
            _ => return None,
        };
        let default = if scope == Scope::AllServers {
            "STATSZ"
        } else {
            ""
        };
        Some(Self {
            scope,
            what: what.unwrap_or(default),
        })
    }

    /// Whether it is about account tokens.
    pub(super) fn is_about_claims(&self) -> bool {
        self.scope == Scope::Claims || self.what.starts_with("CLAIMS.")
    }

    pub(super) fn is_reload(&self) -> bool {
        self.what == "RELOAD" && matches!(self.scope, Scope::Server(_))
    }

    /// What is never asked of all servers at once.
    pub(super) fn is_one_server_only(&self) -> bool {
        matches!(self.what, "KICK" | "LDM" | "RELOAD")
    }
}

/// Options of a request; none at all are an empty object.
pub(super) fn options(payload: &[u8]) -> Result<Value, String> {
    if payload.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    match serde_json::from_slice(payload) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("options must be a JSON object".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A monitoring answer as the data of a system answer.
pub(super) fn shown(what: &str, answer: &MonitorAnswer) -> Result<Value, Refusal> {
    if let Ok(mut data) = serde_json::from_slice::<Value>(&answer.body) {
        if what == "HEALTHZ" {
            data["status_code"] = answer.status.into();
        }
        return Ok(data);
    }
    Err(Refusal(
        String::from_utf8_lossy(&answer.body).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_say_what_is_asked_of_whom() {
        let read = |text: &'static str| {
            Subject::read(text.as_bytes()).map(|subject| (subject.scope, subject.what))
        };
        let cases = [
            ("$SYS.REQ.SERVER.PING", Some((Scope::AllServers, "STATSZ"))),
            (
                "$SYS.REQ.SERVER.PING.VARZ",
                Some((Scope::AllServers, "VARZ")),
            ),
            (
                "$SYS.REQ.SERVER.NX.KICK",
                Some((Scope::Server("NX"), "KICK")),
            ),
            (
                "$SYS.REQ.ACCOUNT.A.INFO",
                Some((Scope::Account("A"), "INFO")),
            ),
            ("$SYS.REQ.USER.INFO", Some((Scope::User, ""))),
            ("$SYS.REQ.CLAIMS.LIST", Some((Scope::Claims, "LIST"))),
            ("$SYS.DEBUG.SUBSCRIBERS", Some((Scope::Subscribers, ""))),
            (
                "$SYS.ACCOUNT.A.CLAIMS.UPDATE",
                Some((Scope::Account("A"), "CLAIMS.UPDATE")),
            ),
            ("$SYS.REQ.USER.OTHER", None),
            ("$SYS.REQ.OTHER.X.Y", None),
            ("$SYS.REQ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn options_are_an_object_or_nothing() {
        assert!(options(b"").is_ok());
        assert!(options(b" \n").is_ok());
        assert!(options(b"{\"cid\":1}").is_ok());
        assert!(options(b"[1]").is_err());
        assert!(options(b"{bad").is_err());
    }
}
