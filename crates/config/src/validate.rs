//! Checks across options that are made at start only, not by a configuration test (spec 07 §7.10).

use millrace_clock::go_duration;
use millrace_subject::is_valid_subject;

use crate::Options;

const SYSTEM_ACCOUNT: &str = "$SYS";
const GLOBAL_ACCOUNT: &str = "$G";

impl Options {
    /// Checks options against each other, after the flags were applied.
    ///
    /// # Errors
    /// The first contradiction, as a sentence for the user.
    pub fn validate(&self) -> Result<(), String> {
        let client = &self.client;
        if client.max_payload as u64 > client.max_pending {
            return Err(format!(
                "max_payload ({}) cannot be higher than max_pending ({})",
                client.max_payload, client.max_pending
            ));
        }
        let lame_duck = &self.lame_duck;
        if lame_duck.grace_period_ns >= lame_duck.duration_ns {
            let text = |ns: u64| go_duration::format(i64::try_from(ns).unwrap_or(i64::MAX));
            return Err(format!(
                "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
                text(lame_duck.grace_period_ns),
                text(lame_duck.duration_ns)
            ));
        }
        self.validate_no_auth_user(self.no_auth_user.as_ref())?;
        self.validate_monitoring()?;
        self.validate_websocket()?;
        self.validate_system_account()?;
        let knows = |name: &str| {
            name == SYSTEM_ACCOUNT
                || name == GLOBAL_ACCOUNT
                || self.operator.is_on()
                || self.accounts.iter().any(|account| account.name == name)
        };
        self.inactive.validate(self.jetstream.enabled, &knows)?;
        self.validate_jetstream()?;
        Ok(())
    }

    fn validate_no_auth_user(&self, name: Option<&String>) -> Result<(), String> {
        let Some(name) = name else {
            return Ok(());
        };
        let of_accounts = self.accounts.iter().flat_map(|account| &account.users);
        let mut users = self
            .authorization
            .users
            .iter()
            .chain(of_accounts)
            .peekable();
        if users.peek().is_none() {
            return Err(format!(
                "no_auth_user: {name:?} present, but users/nkeys are not defined"
            ));
        }
        if users.any(|user| user.name == *name || user.nkey.as_ref() == Some(name)) {
            return Ok(());
        }
        Err(format!(
            "no_auth_user: {name:?} not present as user or nkey in authorization block or account \
             configuration"
        ))
    }

    fn validate_monitoring(&self) -> Result<(), String> {
        let (http, https) = (self.monitor.http_port, self.monitor.https_port);
        if http != 0 && https != 0 {
            return Err(format!(
                "can't specify both HTTP ({http}) and HTTPs ({https}) ports"
            ));
        }
        if https != 0 && self.tls.is_none() {
            return Err("TLS cert and key required for HTTPS".to_owned());
        }
        Ok(())
    }

    fn validate_websocket(&self) -> Result<(), String> {
        let websocket = &self.websocket;
        if !websocket.is_on() {
            return Ok(());
        }
        if websocket.tls.is_none() && !websocket.no_tls {
            return Err("websocket requires TLS configuration".to_owned());
        }
        for origin in &websocket.allowed_origins {
            let is_url = ["http://", "https://"].iter().any(|scheme| {
                let rest = origin.get(scheme.len()..).unwrap_or_default();
                let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
                origin.to_ascii_lowercase().starts_with(scheme) && !host.is_empty()
            });
            if !is_url {
                return Err(format!(
                    "unable to parse allowed origin {origin:?}: it must be an http or https URL with a host"
                ));
            }
        }
        let has_lists = !self.authorization.users.is_empty()
            || self
                .accounts
                .iter()
                .any(|account| !account.users.is_empty());
        if has_lists && websocket.user.is_some() {
            let text =
                "websocket authentication username not compatible with presence of users/nkeys";
            return Err(text.to_owned());
        }
        if has_lists && websocket.token.is_some() {
            let text = "websocket authentication token not compatible with presence of users/nkeys";
            return Err(text.to_owned());
        }
        if websocket.jwt_cookie.is_some() && !self.operator.is_on() {
            let text = "trusted operators or trusted keys configuration is required for JWT authentication via cookie";
            return Err(format!(
                "{text} {:?}",
                websocket.jwt_cookie.as_deref().unwrap_or_default()
            ));
        }
        self.validate_no_auth_user(websocket.no_auth_user.as_ref())
    }

    fn validate_system_account(&self) -> Result<(), String> {
        let Some(name) = &self.system_account else {
            return Ok(());
        };
        let known =
            name == SYSTEM_ACCOUNT || self.accounts.iter().any(|account| account.name == *name);
        if known {
            Ok(())
        } else {
            Err("error resolving system account: account missing".to_owned())
        }
    }

    fn validate_jetstream(&self) -> Result<(), String> {
        let Some(domain) = &self.jetstream.domain else {
            return Ok(());
        };
        let derived = format!("$JS.{domain}.API.>");
        if is_valid_subject(derived.as_bytes()) {
            return Ok(());
        }
        Err(format!(
            "invalid domain name: derived {derived:?} is not a valid subject"
        ))
    }
}

#[cfg(test)]
mod tests {
    fn check(text: &str) -> Result<(), String> {
        let no_files = |_: &str| Err(String::new());
        let (options, _) = crate::parse(text, "test.conf", &no_files, &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}"));
        options.validate()
    }

    // proves: CFG-19
    #[test]
    fn contradictions_are_found_at_start() {
        let cases = [
            (
                "max_payload 70mb",
                "max_payload (73400320) cannot be higher than max_pending (67108864)",
            ),
            (
                "lame_duck_duration '30s'\nlame_duck_grace_period '30s'",
                "lame duck grace period (30s) should be strictly lower than lame duck duration (30s)",
            ),
            (
                "no_auth_user x",
                "no_auth_user: \"x\" present, but users/nkeys are not defined",
            ),
            (
                "system_account X",
                "error resolving system account: account missing",
            ),
            (
                "jetstream { domain 'a b' }",
                "invalid domain name: derived \"$JS.a b.API.>\" is not a valid subject",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text), Err(expected.to_owned()));
        }
        assert_eq!(
            check("accounts { A { users [{user a, pass a}] } }\nno_auth_user a"),
            Ok(())
        );
        assert_eq!(check("accounts { A {} }\nsystem_account A"), Ok(()));
    }
}
