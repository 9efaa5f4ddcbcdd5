//! All flags of the command line and what each changes.

use super::FlagValue;
use crate::Options;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Switch,
    Number,
    Text,
}

/// A flag: its names, the kind of its value and what it does to the options.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(super) names: &'static [&'static str],
    pub(super) kind: Kind,
    pub(super) apply: fn(&mut Options, &FlagValue) -> Result<(), String>,
}

const fn flag(
    names: &'static [&'static str],
    kind: Kind,
    apply: fn(&mut Options, &FlagValue) -> Result<(), String>,
) -> Flag {
    Flag { names, kind, apply }
}

/// A flag that the binary itself asks for.
fn asked_for(_: &mut Options, _: &FlagValue) -> Result<(), String> {
    Ok(())
}

/// Replaces a text unless the flag's is empty.
fn put(target: &mut Option<String>, value: &FlagValue) -> Result<(), String> {
    if !value.text().is_empty() {
        *target = Some(value.text().to_owned());
    }
    Ok(())
}

/// Replaces a number unless the flag's is zero.
fn put_number<T: TryFrom<i64>>(target: &mut T, value: &FlagValue) -> Result<(), String> {
    if value.number() != 0 {
        *target = T::try_from(value.number())
            .map_err(|_| format!("has the value {}, which is out of range", value.number()))?;
    }
    Ok(())
}

fn switch(target: &mut bool, value: &FlagValue) -> Result<(), String> {
    *target = value.switch();
    Ok(())
}

pub(super) const FLAGS: &[Flag] = &[
    // Asked for by the binary.
    flag(&["h", "help"], Kind::Switch, asked_for),
    flag(&["v", "version"], Kind::Switch, asked_for),
    flag(&["help_tls"], Kind::Switch, asked_for),
    flag(&["c", "config"], Kind::Text, asked_for),
    flag(&["t"], Kind::Switch, asked_for),
    flag(&["sl", "signal"], Kind::Text, asked_for),
    // The server.
    flag(&["a", "addr", "net"], Kind::Text, |o, v| {
        if !v.text().is_empty() {
            v.text().clone_into(&mut o.client.host);
        }
        Ok(())
    }),
    flag(&["p", "port"], Kind::Number, |o, v| {
        put_number(&mut o.client.port, v)
    }),
    flag(&["n", "name", "server_name"], Kind::Text, |o, v| {
        put(&mut o.server_name, v)
    }),
    flag(&["P", "pid"], Kind::Text, |o, v| put(&mut o.pid_file, v)),
    flag(&["m", "http_port"], Kind::Number, |o, v| {
        put_number(&mut o.monitor.http_port, v)
    }),
    flag(&["ms", "https_port"], Kind::Number, |o, v| {
        put_number(&mut o.monitor.https_port, v)
    }),
    flag(&["client_advertise"], Kind::Text, |o, v| {
        put(&mut o.client.advertise, v)
    }),
    flag(&["ports_file_dir"], Kind::Text, |o, v| {
        put(&mut o.ports_file_dir, v)
    }),
    // Logging.
    flag(&["l", "log"], Kind::Text, |o, v| put(&mut o.log.file, v)),
    flag(&["log_size_limit"], Kind::Number, |o, v| {
        put_number(&mut o.log.file_size_limit, v)
    }),
    flag(&["T", "logtime"], Kind::Switch, |o, v| {
        switch(&mut o.log.time, v)
    }),
    flag(&["logtime_utc"], Kind::Switch, |o, v| {
        switch(&mut o.log.time_utc, v)
    }),
    flag(&["s", "syslog"], Kind::Switch, |o, v| {
        switch(&mut o.log.syslog, v)
    }),
    flag(&["r", "remote_syslog"], Kind::Text, |o, v| {
        v.text().clone_into(&mut o.log.remote_syslog);
        Ok(())
    }),
    flag(&["D", "debug"], Kind::Switch, |o, v| {
        switch(&mut o.log.debug, v)
    }),
    flag(&["V", "trace"], Kind::Switch, |o, v| {
        switch(&mut o.log.trace, v)
    }),
    flag(&["VV"], Kind::Switch, verbose_trace),
    flag(&["DV"], Kind::Switch, |o, v| {
        switch(&mut o.log.debug, v)?;
        switch(&mut o.log.trace, v)
    }),
    flag(&["DVV"], Kind::Switch, |o, v| {
        switch(&mut o.log.debug, v)?;
        verbose_trace(o, v)
    }),
    flag(&["max_traced_msg_len"], Kind::Number, |o, v| {
        put_number(&mut o.log.max_traced_message_length, v)
    }),
    // JetStream.
    flag(&["js", "jetstream"], Kind::Switch, |o, v| {
        switch(&mut o.jetstream.enabled, v)
    }),
    flag(&["sd", "store_dir"], Kind::Text, |o, v| {
        put(&mut o.jetstream.store_dir, v)
    }),
    // Who may connect.
    flag(&["user"], Kind::Text, |o, v| {
        put(&mut o.authorization.user, v)
    }),
    flag(&["pass"], Kind::Text, |o, v| {
        put(&mut o.authorization.password, v)
    }),
    flag(&["auth"], Kind::Text, |o, v| {
        put(&mut o.authorization.token, v)
    }),
    // TLS: taken together, in `Flags::apply_tls`.
    flag(&["tls"], Kind::Switch, asked_for),
    flag(&["tlsverify"], Kind::Switch, asked_for),
    flag(&["tlscert"], Kind::Text, asked_for),
    flag(&["tlskey"], Kind::Text, asked_for),
    flag(&["tlscacert"], Kind::Text, asked_for),
    // Clusters, taken together in `Flags::apply_cluster`, and profiles.
    flag(&["cluster", "cluster_listen"], Kind::Text, asked_for),
    flag(&["cluster_name"], Kind::Text, asked_for),
    flag(&["cluster_advertise"], Kind::Text, asked_for),
    flag(&["no_advertise"], Kind::Switch, asked_for),
    flag(&["connect_retries"], Kind::Number, asked_for),
    flag(&["routes"], Kind::Text, asked_for),
    flag(&["profile"], Kind::Number, |o, v| {
        put_number(&mut o.monitor.profile_port, v)?;
        if o.monitor.profile_port != 0 {
            o.inactive.note("prof_port");
        }
        Ok(())
    }),
];

fn verbose_trace(options: &mut Options, value: &FlagValue) -> Result<(), String> {
    switch(&mut options.log.trace, value)?;
    switch(&mut options.log.trace_verbose, value)
}
