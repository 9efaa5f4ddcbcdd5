//! Which options a running server can take over from a changed file (spec core/08).
//!
//! A reload is all or nothing: one change that needs a restart refuses the whole file.

use std::fmt::Debug;

use millrace_clock::go_duration;

use crate::options::{JetStreamOptions, WebsocketOptions};
use crate::{Options, size_text};

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

fn refused(what: &str) -> Result<(), String> {
    Err(format!("config reload not supported for {what}"))
}

fn duration(ns: u64) -> String {
    go_duration::format(i64::try_from(ns).unwrap_or(i64::MAX))
}

impl Options {
    /// Checks whether a server that runs with these options can go on with `new`.
    ///
    /// # Errors
    /// The first change that needs a restart, in the reference's words and order.
    pub fn check_reload(&self, new: &Self) -> Result<(), String> {
        let (old_client, new_client) = (&self.client, &new.client);
        same("ServerName", &self.server_name, &new.server_name)?;
        same("Host", &old_client.host, &new_client.host)?;
        same("Port", &old_client.port, &new_client.port)?;
        let cache = |options: &Self| options.client.disable_match_cache;
        same("NoSublistCache", &cache(self), &cache(new))?;
        same(
            "NoHeaderSupport",
            &old_client.no_header_support,
            &new_client.no_header_support,
        )?;
        same(
            "MaxSubs",
            &old_client.max_subscriptions,
            &new_client.max_subscriptions,
        )?;
        let tokens = |options: &Self| options.client.max_subscription_tokens;
        same("MaxSubTokens", &tokens(self), &tokens(new))?;
        if new.no_auth_user.is_some() {
            same("NoAuthUser", &self.no_auth_user, &new.no_auth_user)?;
        }
        same("SystemAccount", &self.system_account, &new.system_account)?;
        let no_system = |options: &Self| options.no_system_account;
        same("NoSystemAccount", &no_system(self), &no_system(new))?;
        let proxy = |options: &Self| options.client.proxy_protocol;
        same("ProxyProtocol", &proxy(self), &proxy(new))?;
        self.check_monitoring(new)?;
        same(
            "MaxPending",
            &old_client.max_pending,
            &new_client.max_pending,
        )?;
        self.check_websocket(new)?;
        let profiling = |options: &Self| options.monitor.profile_port;
        same("ProfPort", &profiling(self), &profiling(new))?;
        same(
            "LogSizeLimit",
            &self.log.file_size_limit,
            &new.log.file_size_limit,
        )?;
        same("LogMaxFiles", &self.log.file_keep, &new.log.file_keep)?;
        same("TLS", &self.tls.is_some(), &new.tls.is_some())?;
        same("AllowNonTLS", &self.allow_non_tls, &new.allow_non_tls)?;
        same(
            "WriteTimeout",
            &old_client.write_timeout.name(),
            &new_client.write_timeout.name(),
        )?;
        same(
            "MaxClosedClients",
            &old_client.max_closed_clients,
            &new_client.max_closed_clients,
        )?;
        let (old_duck, new_duck) = (&self.lame_duck, &new.lame_duck);
        same(
            "LameDuckDuration",
            &duration(old_duck.duration_ns),
            &duration(new_duck.duration_ns),
        )?;
        same(
            "LameDuckGracePeriod",
            &duration(old_duck.grace_period_ns),
            &duration(new_duck.grace_period_ns),
        )?;
        same("FeatureFlags", &flags_text(self), &flags_text(new))?;
        self.jetstream.check_reload(&new.jetstream)
    }

    fn check_monitoring(&self, new: &Self) -> Result<(), String> {
        let host = |options: &Self| match options.monitor.host.as_str() {
            "" => options.client.host.clone(),
            host => host.to_owned(),
        };
        same("HTTPHost", &host(self), &host(new))?;
        same("HTTPPort", &self.monitor.http_port, &new.monitor.http_port)?;
        let path = |options: &Self| match options.monitor.base_path.as_str() {
            "/" => String::new(),
            path => path.to_owned(),
        };
        same("HTTPBasePath", &path(self), &path(new))?;
        let https = |options: &Self| options.monitor.https_port;
        same("HTTPSPort", &https(self), &https(new))?;
        let ours = |options: &Self| {
            let it = &options.monitor;
            let secrets = (it.user.clone(), it.password.clone(), it.token.clone());
            (secrets, it.dashboard, it.actions)
        };
        if ours(self) == ours(new) {
            return Ok(());
        }
        // Secrets are not shown.
        refused("monitoring: user, password, token, dashboard or actions differ")
    }

    /// Of this block only certificates may change. The reference shows both blocks whole; here the
    /// field is named.
    fn check_websocket(&self, new: &Self) -> Result<(), String> {
        let (old, new) = (&self.websocket, &new.websocket);
        let field = |name: &str| format!("Websocket: field {name:?}");
        same(&field("Host"), &old.host, &new.host)?;
        same(&field("Port"), &old.port, &new.port)?;
        same(&field("Advertise"), &old.advertise, &new.advertise)?;
        same(&field("NoTLS"), &old.no_tls, &new.no_tls)?;
        same(&field("TLS"), &old.tls.is_some(), &new.tls.is_some())?;
        same(&field("SameOrigin"), &old.same_origin, &new.same_origin)?;
        same(&field("Compression"), &old.compression, &new.compression)?;
        let rest = |options: &WebsocketOptions| WebsocketOptions {
            tls: None,
            ..options.clone()
        };
        // Names, passwords and origins are not shown.
        if rest(old) == rest(new) {
            return Ok(());
        }
        refused("Websocket: users, cookies, origins, headers or times differ")
    }
}

/// Flags as Go shows a map.
fn flags_text(options: &Options) -> String {
    let flags = options.feature_flags.iter();
    let parts: Vec<String> = flags.map(|(name, on)| format!("{name}:{on}")).collect();
    format!("map[{}]", parts.join(" "))
}

impl Options {
    /// What a reload to `new` changes, as lines for the log in the reference's words and order.
    ///
    /// Users and accounts are always named: connections are held against them again in any case.
    #[must_use]
    pub fn reload_lines(&self, new: &Self) -> Vec<String> {
        let mut lines = Lines::default();
        let (old, client) = (&self.client, &new.client);
        if old.advertise != client.advertise {
            // The reference's one line that begins so.
            let advertise = text(&client.advertise);
            lines
                .0
                .push(format!("Reload: client_advertise = {advertise}"));
        }
        let (old_log, log) = (&self.log, &new.log);
        lines.changed("trace", old_log.trace, log.trace);
        lines.changed("debug", old_log.debug, log.debug);
        lines.changed("trace_verbose", old_log.trace_verbose, log.trace_verbose);
        lines.changed("trace_headers", old_log.trace_headers, log.trace_headers);
        lines.changed("logtime", old_log.time, log.time);
        lines.changed("logtime_utc", old_log.time_utc, log.time_utc);
        lines.changed(
            "max_connections",
            old.max_connections,
            client.max_connections,
        );
        self.security_lines(new, &mut lines);
        let (from, to) = (
            duration(old.ping_interval_ns),
            duration(client.ping_interval_ns),
        );
        lines.changed("ping_interval", from, to);
        lines.changed("ping_max", old.ping_max, client.ping_max);
        let seconds = |ns: u64| ns as f64 / 1e9;
        let (old_auth, auth) = (&self.authorization, &new.authorization);
        let (from, to) = (seconds(old_auth.timeout_ns), seconds(auth.timeout_ns));
        lines.changed("authorization timeout", from, to);
        lines.changed(
            "max_control_line",
            old.max_control_line,
            client.max_control_line,
        );
        lines.changed("max_payload", old.max_payload, client.max_payload);
        if old.no_fast_producer_stall != client.no_fast_producer_stall {
            let word = if client.no_fast_producer_stall {
                "not "
            } else {
                ""
            };
            let line = format!("Reloaded: fast producers will {word}be stalled");
            lines.0.push(line);
        }
        self.jetstream.reload_lines(&new.jetstream, &mut lines);
        lines.named("tls", self.tls != new.tls);
        self.file_lines(new, &mut lines);
        lines.0
    }

    fn security_lines(&self, new: &Self, lines: &mut Lines) {
        lines.always("authorization users");
        lines.always("accounts");
        let (old_auth, auth) = (&self.authorization, &new.authorization);
        lines.named("authorization username", old_auth.user != auth.user);
        lines.named("authorization password", old_auth.password != auth.password);
        lines.named("authorization token", old_auth.token != auth.token);
    }

    fn file_lines(&self, new: &Self, lines: &mut Lines) {
        let (old_log, log) = (&self.log, &new.log);
        lines.changed("log_file", text(&old_log.file), text(&log.file));
        lines.changed("syslog", old_log.syslog, log.syslog);
        lines.changed("remote_syslog", &old_log.remote_syslog, &log.remote_syslog);
        lines.changed("pid_file", text(&self.pid_file), text(&new.pid_file));
        lines.changed(
            "ports_file_dir",
            text(&self.ports_file_dir),
            text(&new.ports_file_dir),
        );
        let (from, to) = (
            duration(self.client.write_deadline_ns),
            duration(new.client.write_deadline_ns),
        );
        lines.changed("write_deadline", from, to);
        let length = |options: &Self| options.log.max_traced_message_length;
        lines.changed("max_traced_msg_len", length(self), length(new));
        lines.changed(
            "connect_error_reports",
            old_log.connect_error_reports,
            log.connect_error_reports,
        );
        lines.changed(
            "reconnect_error_reports",
            old_log.reconnect_error_reports,
            log.reconnect_error_reports,
        );
        lines.named("tags", self.server_tags != new.server_tags);
        lines.named("metadata", self.server_metadata != new.server_metadata);
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
        if self.store_dir != new.store_dir {
            return refused("jetstream storage directory");
        }
        same("JetStreamDomain", &self.domain, &new.domain)?;
        same("JetStreamMaxCache", &self.max_cache, &new.max_cache)?;
        let (old, fresh) = (self.scrub_interval_ns, new.scrub_interval_ns);
        same("JetStreamScrubInterval", &old, &fresh)?;
        same(
            "SyncInterval",
            &self.sync_interval.name(),
            &new.sync_interval.name(),
        )?;
        same("JetStreamStrict", &self.strict, &new.strict)?;
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
        let limits = [
            (self.max_memory, new.max_memory),
            (self.max_file, new.max_file),
        ];
        for (old, new) in limits {
            match (old, new) {
                (Some(old), Some(new)) if new < old => {
                    return refused("decreasing jetstream max memory and store");
                }
                (Some(_), None) => return refused("jetstream max memory and max store"),
                _ => {}
            }
        }
        Ok(())
    }

    fn reload_lines(&self, new: &Self, lines: &mut Lines) {
        let size = |bytes: Option<u64>| size_text(bytes.unwrap_or_default());
        lines.changed(
            "JetStream max_mem_store",
            size(self.max_memory),
            size(new.max_memory),
        );
        lines.changed(
            "JetStream max_file_store",
            size(self.max_file),
            size(new.max_file),
        );
        lines.named("JetStream limits", self.limits != new.limits);
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
                "decreasing jetstream max memory and store",
            ),
        ];
        for (old, new, name) in refused {
            let expected = format!("config reload not supported for {name}");
            assert_eq!(options(old).check_reload(&options(new)), Err(expected));
        }
    }
}
