//! Which options a running server can take over from a changed file (spec core/08).
//!
//! A reload is all or nothing: one change that needs a restart refuses the whole file.

use std::fmt::Debug;

use millrace_clock::go_duration;

use crate::Options;
use crate::options::{JetStreamOptions, WebsocketOptions};

fn same<T: PartialEq + Debug>(name: &str, old: &T, new: &T) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    Err(format!(
        "config reload not supported for {name}: old={}, new={}",
        shown(old),
        shown(new)
    ))
}

/// Values as the reference shows them: without the quotes of strings or the wrapping of options.
fn shown(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    let inner = text
        .strip_prefix("Some(")
        .and_then(|rest| rest.strip_suffix(')'));
    let text = inner.unwrap_or(if text == "None" { "" } else { &text });
    text.trim_matches('"').to_owned()
}

/// A size that may only grow; `None` is what the host chose and stays.
fn grows(name: &str, old: Option<u64>, new: Option<u64>) -> Result<(), String> {
    match (old, new) {
        (Some(old), Some(new)) if new >= old => Ok(()),
        _ => same(name, &old, &new),
    }
}

impl Options {
    /// Checks whether a server that runs with these options can go on with `new`.
    ///
    /// # Errors
    /// The first change that needs a restart, in the reference's words.
    pub fn check_reload(&self, new: &Self) -> Result<(), String> {
        let (old_client, new_client) = (&self.client, &new.client);
        same("Host", &old_client.host, &new_client.host)?;
        same("Port", &old_client.port, &new_client.port)?;
        same("ServerName", &self.server_name, &new.server_name)?;
        same("HTTPHost", &self.monitor.host, &new.monitor.host)?;
        same("HTTPPort", &self.monitor.http_port, &new.monitor.http_port)?;
        same(
            "HTTPBasePath",
            &self.monitor.base_path,
            &new.monitor.base_path,
        )?;
        same(
            "MaxSubs",
            &old_client.max_subscriptions,
            &new_client.max_subscriptions,
        )?;
        let tokens = |options: &Self| options.client.max_subscription_tokens;
        same("MaxSubTokens", &tokens(self), &tokens(new))?;
        same(
            "MaxPending",
            &old_client.max_pending,
            &new_client.max_pending,
        )?;
        same(
            "MaxClosedClients",
            &old_client.max_closed_clients,
            &new_client.max_closed_clients,
        )?;
        same(
            "WriteTimeout",
            &old_client.write_timeout,
            &new_client.write_timeout,
        )?;
        same(
            "NoHeaderSupport",
            &old_client.no_header_support,
            &new_client.no_header_support,
        )?;
        let cache = |options: &Self| options.client.disable_match_cache;
        same("NoSublistCache", &cache(self), &cache(new))?;
        same("AllowNonTLS", &self.allow_non_tls, &new.allow_non_tls)?;
        same("TLS", &self.tls.is_some(), &new.tls.is_some())?;
        same("SystemAccount", &self.system_account, &new.system_account)?;
        same(
            "NoSystemAccount",
            &self.no_system_account,
            &new.no_system_account,
        )?;
        let (old_duck, new_duck) = (&self.lame_duck, &new.lame_duck);
        same(
            "LameDuckDuration",
            &old_duck.duration_ns,
            &new_duck.duration_ns,
        )?;
        same(
            "LameDuckGracePeriod",
            &old_duck.grace_period_ns,
            &new_duck.grace_period_ns,
        )?;
        same("FeatureFlags", &self.feature_flags, &new.feature_flags)?;
        if new.no_auth_user.is_some() {
            same("NoAuthUser", &self.no_auth_user, &new.no_auth_user)?;
        }
        self.check_websocket(new)?;
        self.jetstream.check_reload(&new.jetstream)
    }

    /// Of this block only certificates may change.
    fn check_websocket(&self, new: &Self) -> Result<(), String> {
        let rest = |options: &Self| WebsocketOptions {
            tls: None,
            ..options.websocket.clone()
        };
        same("Websocket", &rest(self), &rest(new))?;
        let has_tls = |options: &Self| options.websocket.tls.is_some();
        same("Websocket", &has_tls(self), &has_tls(new))
    }
}

impl Options {
    /// What a reload to `new` changes, as lines for the log in the reference's words and order.
    ///
    /// Users and accounts are always named: connections are held against them again in any case.
    #[must_use]
    pub fn reload_lines(&self, new: &Self) -> Vec<String> {
        let mut lines = Lines::default();
        let (old_log, log) = (&self.log, &new.log);
        lines.changed("trace", old_log.trace, log.trace);
        lines.changed("debug", old_log.debug, log.debug);
        lines.changed("trace_verbose", old_log.trace_verbose, log.trace_verbose);
        lines.changed("trace_headers", old_log.trace_headers, log.trace_headers);
        lines.changed("logtime", old_log.time, log.time);
        lines.changed("logtime_utc", old_log.time_utc, log.time_utc);
        lines.changed("log_file", text(&old_log.file), text(&log.file));
        let (old, client) = (&self.client, &new.client);
        lines.changed(
            "max_connections",
            old.max_connections,
            client.max_connections,
        );
        lines.always("authorization users");
        lines.always("accounts");
        let (old_auth, auth) = (&self.authorization, &new.authorization);
        lines.named("authorization username", old_auth.user != auth.user);
        lines.named("authorization password", old_auth.password != auth.password);
        lines.named("authorization token", old_auth.token != auth.token);
        lines.named("tls", self.tls != new.tls);
        let interval = |ns: u64| go_duration::format(i64::try_from(ns).unwrap_or(i64::MAX));
        let (from, to) = (
            interval(old.ping_interval_ns),
            interval(client.ping_interval_ns),
        );
        lines.changed("ping_interval", from, to);
        lines.changed("ping_max", old.ping_max, client.ping_max);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let (from, to) = (seconds(old_auth.timeout_ns), seconds(auth.timeout_ns));
        lines.changed("authorization timeout", from, to);
        lines.changed(
            "max_control_line",
            old.max_control_line,
            client.max_control_line,
        );
        lines.changed("max_payload", old.max_payload, client.max_payload);
        lines.changed(
            "client_advertise",
            text(&old.advertise),
            text(&client.advertise),
        );
        lines.changed("pid_file", text(&self.pid_file), text(&new.pid_file));
        lines.changed(
            "ports_file_dir",
            text(&self.ports_file_dir),
            text(&new.ports_file_dir),
        );
        let (from, to) = (
            interval(old.write_deadline_ns),
            interval(client.write_deadline_ns),
        );
        lines.changed("write_deadline", from, to);
        let length = |options: &Self| options.log.max_traced_message_length;
        lines.changed("max_traced_msg_len", length(self), length(new));
        lines.named("tags", self.server_tags != new.server_tags);
        lines.named("metadata", self.server_metadata != new.server_metadata);
        lines.0
    }
}

fn text(option: &Option<String>) -> &str {
    option.as_deref().unwrap_or("")
}

#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn changed<T: PartialEq + std::fmt::Display>(&mut self, name: &str, old: T, new: T) {
        if old != new {
            self.0.push(format!("Reloaded: {name} = {new}"));
        }
    }

    fn named(&mut self, name: &str, changed: bool) {
        if changed {
            self.always(name);
        }
    }

    fn always(&mut self, name: &str) {
        self.0.push(format!("Reloaded: {name}"));
    }
}

impl JetStreamOptions {
    fn check_reload(&self, new: &Self) -> Result<(), String> {
        same("JetStream", &self.enabled, &new.enabled)?;
        same("StoreDir", &self.store_dir, &new.store_dir)?;
        same("JetStreamDomain", &self.domain, &new.domain)?;
        same("JetStreamMaxCache", &self.max_cache, &new.max_cache)?;
        same("SyncInterval", &self.sync_interval, &new.sync_interval)?;
        same("JetStreamStrict", &self.strict, &new.strict)?;
        same("JetStreamLimits", &self.limits, &new.limits)?;
        same(
            "StreamMaxBufferedSize",
            &self.max_buffered_size,
            &new.max_buffered_size,
        )?;
        same(
            "StreamMaxBufferedMsgs",
            &self.max_buffered_messages,
            &new.max_buffered_messages,
        )?;
        grows("JetStreamMaxMemory", self.max_memory, new.max_memory)?;
        grows("JetStreamMaxStore", self.max_file, new.max_file)
    }
}

#[cfg(test)]
mod tests {
    use crate::Options;

    fn options(text: &str) -> Options {
        let no_files = |_: &str| Err(String::new());
        crate::parse(text, "test.conf", &no_files, &|_| None)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .0
    }

    #[test]
    fn changes_are_told_line_by_line() {
        let old = options("port 1");
        let new = "port 1\ndebug true\nmax_payload 2000\nping_interval '3s'\n\
                   authorization { user a, timeout 3 }";
        let expected = [
            "Reloaded: debug = true",
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: authorization username",
            "Reloaded: ping_interval = 3s",
            "Reloaded: authorization timeout = 3",
            "Reloaded: max_payload = 2000",
        ];
        assert_eq!(old.reload_lines(&options(new)), expected);
    }

    #[test]
    fn what_a_running_server_can_change_is_accepted_and_the_rest_refused() {
        let accepted = [
            ("debug true", "debug false"),
            ("max_payload 1mb", "max_payload 2mb"),
            (
                "authorization { user a, pass b }",
                "authorization { user a, pass c }",
            ),
            ("jetstream { max_mem 1gb }", "jetstream { max_mem 2gb }"),
        ];
        for (old, new) in accepted {
            assert_eq!(
                options(old).check_reload(&options(new)),
                Ok(()),
                "{old} -> {new}"
            );
        }
        let refused = [
            ("port 1", "port 2", "Port: old=1, new=2"),
            ("host a", "host b", "Host: old=a, new=b"),
            ("max_subs 5", "max_subs 6", "MaxSubs: old=5, new=6"),
            ("port 1", "server_name x\nport 1", "ServerName: old=, new=x"),
            (
                "jetstream { max_mem 2gb }",
                "jetstream { max_mem 1gb }",
                "JetStreamMaxMemory: old=2147483648, new=1073741824",
            ),
        ];
        for (old, new, name) in refused {
            let expected = format!("config reload not supported for {name}");
            assert_eq!(options(old).check_reload(&options(new)), Err(expected));
        }
    }
}
