//! The command line in the syntax of Go's flag package (spec core/05 §5.1).
//!
//! `-x`, `--x`, `-x=v` and `-x v` are the same; switches take a value only after `=`; the first
//! word that is no flag ends them. Flags lie over the configuration file. What help and version
//! print, and exit codes, are left to the binary.

mod table;

use crate::Options;
use table::{FLAGS, Flag, Kind};

/// A command line that cannot be read. Displays the sentence that goes in front of the usage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// A flag nobody knows.
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    /// A flag at the end whose value is missing.
    #[error("flag needs an argument: -{0}")]
    MissingValue(String),
    /// A dash without a name, or three.
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    /// A switch with something else than a truth value.
    #[error("invalid boolean value {value:?} for -{name}: parse error")]
    BadSwitch {
        /// Name of the flag.
        name: String,
        /// The value.
        value: String,
    },
    /// A number that is none, or too large.
    #[error("invalid value {value:?} for flag -{name}: {reason}")]
    BadNumber {
        /// Name of the flag.
        name: String,
        /// The value.
        value: String,
        /// `parse error` or `value out of range`.
        reason: &'static str,
    },
}

/// The value of a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FlagValue {
    Switch(bool),
    Number(i64),
    Text(String),
}

impl FlagValue {
    fn switch(&self) -> bool {
        matches!(self, Self::Switch(true))
    }

    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            _ => 0,
        }
    }
}

/// A parsed command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: Vec<(&'static Flag, FlagValue)>,
    /// Words behind the flags.
    pub words: Vec<String>,
}

impl Flags {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    /// The first argument that is wrong; the reference then prints it and the usage.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, FlagError> {
        let mut arguments = arguments.into_iter();
        let mut flags = Self::default();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                flags.words.push(argument);
                break;
            };
            let rest = rest.strip_prefix('-').unwrap_or(rest);
            if rest.is_empty() {
                break;
            }
            if rest.starts_with(['-', '=']) {
                return Err(FlagError::Syntax(argument));
            }
            let (name, value) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            let Some(flag) = FLAGS.iter().find(|flag| flag.names.contains(&name)) else {
                return Err(FlagError::Unknown(name.to_owned()));
            };
            let value = match (flag.kind, value) {
                (Kind::Switch, None) => FlagValue::Switch(true),
                (kind, Some(value)) => read(kind, name, value)?,
                (kind, None) => {
                    let missing = || FlagError::MissingValue(name.to_owned());
                    read(kind, name, arguments.next().ok_or_else(missing)?)?
                }
            };
            flags.given.push((flag, value));
        }
        flags.words.extend(arguments);
        Ok(flags)
    }

    /// The last value given for a flag, by any of its names.
    fn last(&self, name: &str) -> Option<&FlagValue> {
        let found = self
            .given
            .iter()
            .rev()
            .find(|(flag, _)| flag.names.contains(&name));
        found.map(|(_, value)| value)
    }

    /// Whether a flag is given at all.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.last(name).is_some_and(FlagValue::switch)
    }

    /// The text of a flag that is given and not empty.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.last(name)
            .map(FlagValue::text)
            .filter(|text| !text.is_empty())
    }

    /// Lays the flags over options that came from a file, or over the defaults.
    ///
    /// # Errors
    /// Flags that contradict each other, or ask for what is not built yet.
    pub fn apply(&self, options: &mut Options) -> Result<(), String> {
        for (flag, value) in &self.given {
            (flag.apply)(options, value).map_err(|reason| {
                let name = flag.names.first().copied().unwrap_or_default();
                format!("flag -{name} {reason}")
            })?;
        }
        self.apply_cluster(options)?;
        self.apply_tls(options)
    }

    /// Clusters are not active; what is asked for is checked and noted.
    fn apply_cluster(&self, options: &mut Options) -> Result<(), String> {
        let inactive = &mut options.inactive;
        if let Some(listen) = self.last("cluster").map(FlagValue::text) {
            if listen.is_empty() {
                inactive.features.retain(|feature| *feature != "cluster");
            } else {
                check_cluster_url(listen)?;
                inactive.note("cluster");
            }
        }
        if self.text("routes").is_some() && !inactive.is_noted("cluster") {
            let text = "solicited routes require cluster capabilities, e.g. --cluster";
            return Err(text.to_owned());
        }
        if let Some(name) = self.text("cluster_name") {
            inactive.cluster_name = Some(name.to_owned());
        }
        Ok(())
    }

    /// The TLS flags only make sense together.
    fn apply_tls(&self, options: &mut Options) -> Result<(), String> {
        if self.last("tls").is_some() && !self.is_on("tls") && !self.is_on("tlsverify") {
            options.tls = None;
            return Ok(());
        }
        if !self.is_on("tls") && !self.is_on("tlsverify") {
            return Ok(());
        }
        let text = |name: &str| self.text(name).map(str::to_owned);
        let mut tls = options.tls.take().unwrap_or_default();
        match (text("tlscert"), text("tlskey")) {
            (Some(cert_file), Some(key_file)) => {
                tls.certificates = vec![crate::options::CertificatePair {
                    cert_file,
                    key_file,
                }];
            }
            (None, None) if !tls.certificates.is_empty() => {}
            (None, _) => {
                return Err("TLS Server certificate must be present and valid".to_owned());
            }
            (Some(_), None) => {
                return Err("TLS Server private key must be present and valid".to_owned());
            }
        }
        if let Some(ca_file) = text("tlscacert") {
            tls.ca_file = Some(ca_file);
        }
        tls.verify |= self.is_on("tlsverify");
        options.tls = Some(tls);
        Ok(())
    }
}

/// `nats://[user:password@]host:port`.
fn check_cluster_url(url: &str) -> Result<(), String> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    if place.is_empty() {
        return Err("missing port in address".to_owned());
    }
    if !place.contains(':') {
        return Err(format!("address {place}: missing port in address"));
    }
    if login.is_some_and(|login| !login.contains(':')) {
        return Err("expected cluster password to be set".to_owned());
    }
    Ok(())
}

fn read(kind: Kind, name: &str, value: String) -> Result<FlagValue, FlagError> {
    match kind {
        Kind::Text => Ok(FlagValue::Text(value)),
        Kind::Switch => match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(FlagValue::Switch(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(FlagValue::Switch(false)),
            _ => Err(FlagError::BadSwitch {
                name: name.to_owned(),
                value,
            }),
        },
        Kind::Number => match number(&value) {
            Ok(number) => Ok(FlagValue::Number(number)),
            Err(reason) => Err(FlagError::BadNumber {
                name: name.to_owned(),
                value,
                reason,
            }),
        },
    }
}

/// A whole number: decimal, or with the prefixes `0x`, `0o`, `0b` and `0`.
fn number(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(digits) = lower.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (digits, 8)
    } else if let Some(digits) = lower.strip_prefix('0').filter(|digits| !digits.is_empty()) {
        (digits, 8)
    } else {
        (lower.as_str(), 10)
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err("parse error");
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| "value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, FlagError> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    fn options(line: &str) -> Options {
        let mut options = Options::default();
        parse(line)
            .expect("valid")
            .apply(&mut options)
            .expect("applies");
        options
    }

    // proves: CLI-01
    #[test]
    fn dashes_and_equal_signs_are_read_as_go_reads_them() {
        for line in [
            "-p -1",
            "--p -1",
            "-port=-1",
            "--port=-1",
            "-p 1 -p -1",
            "-p=-0x1",
        ] {
            assert_eq!(options(line).client.port, -1, "{line}");
        }
        assert!(options("-D").log.debug);
        assert!(!options("-D=false").log.debug);
        assert!(!options("-D=0 -V=T").log.debug);
        assert_eq!(parse("-D word -V").expect("valid").words, ["word", "-V"]);
        assert!(!parse("-- -D").expect("valid").is_on("D"));
        assert_eq!(parse("-").expect("valid").words, ["-"]);
    }

    #[test]
    fn wrong_command_lines_get_gos_sentences() {
        let cases = [
            ("-foo", "flag provided but not defined: -foo"),
            ("-p", "flag needs an argument: -p"),
            ("-p x", "invalid value \"x\" for flag -p: parse error"),
            ("-p=", "invalid value \"\" for flag -p: parse error"),
            (
                "-p 99999999999999999999",
                "invalid value \"99999999999999999999\" for flag -p: value out of range",
            ),
            ("--D=x", "invalid boolean value \"x\" for -D: parse error"),
            ("-=x", "bad flag syntax: -=x"),
            ("---p 1", "bad flag syntax: ---p"),
        ];
        for (line, expected) in cases {
            assert_eq!(
                parse(line).map(|_| ()).unwrap_err().to_string(),
                expected,
                "{line}"
            );
        }
    }

    // proves: CLI-02, CLI-03, CLI-04, CLI-05
    #[test]
    fn flags_lie_over_the_options() {
        let o = options(
            "-a 127.0.0.1 -n srv -P pid -m 8222 -l log -js -sd /data -DV --user u --pass p \
             --client_advertise h:1 --ports_file_dir d -T=false --log_size_limit 5",
        );
        assert_eq!(
            (o.client.host.as_str(), o.server_name.as_deref()),
            ("127.0.0.1", Some("srv"))
        );
        assert_eq!(
            (o.pid_file.as_deref(), o.ports_file_dir.as_deref()),
            (Some("pid"), Some("d"))
        );
        assert_eq!(
            (o.monitor.http_port, o.log.file.as_deref()),
            (8222, Some("log"))
        );
        assert!(o.jetstream.enabled && o.log.debug && o.log.trace && !o.log.time);
        assert_eq!(o.jetstream.store_dir.as_deref(), Some("/data"));
        assert_eq!(
            (o.authorization.user.as_deref(), o.log.file_size_limit),
            (Some("u"), 5)
        );
        assert_eq!(
            options("--auth t").authorization.token.as_deref(),
            Some("t")
        );
        assert!(options("-VV").log.trace_verbose);
        assert_eq!(options("-p 0").client.port, 4222);
        assert!(options("-s").log.syslog);
        let elsewhere = options("-r udp://h:514").log.remote_syslog;
        assert_eq!(elsewhere, "udp://h:514");
    }

    // proves: CLI-06
    #[test]
    fn tls_flags_need_each_other() {
        let o = options("--tlsverify --tlscert c --tlskey k --tlscacert a");
        let tls = o.tls.expect("set");
        assert!(tls.verify);
        assert_eq!(
            (tls.certificates.len(), tls.ca_file.as_deref()),
            (1, Some("a"))
        );
        let apply = |line: &str| parse(line).expect("valid").apply(&mut Options::default());
        let text = "TLS Server certificate must be present and valid";
        assert_eq!(apply("-tls"), Err(text.to_owned()));
        assert!(apply("-tls -tlscert c").is_err());
        assert_eq!(apply("-tls=false"), Ok(()));
    }

    // proves: CLI-07, CLI-08
    #[test]
    fn flags_of_a_cluster_and_of_profiles_are_checked_and_noted() {
        let apply = |line: &str| {
            let mut options = Options::default();
            let applied = parse(line).expect("valid").apply(&mut options);
            applied.map(|()| options.inactive.features)
        };
        let cluster = "--cluster nats://u:p@h:1 --routes nats://a:1 --cluster_name x";
        assert_eq!(apply(cluster), Ok(vec!["cluster"]));
        assert_eq!(
            apply("--cluster_name x --no_advertise --connect_retries 3"),
            Ok(vec![])
        );
        assert_eq!(apply("--cluster="), Ok(vec![]));
        assert_eq!(apply("--profile 5"), Ok(vec!["prof_port"]));
        for (line, text) in [
            ("--cluster foo", "missing port in address"),
            ("--cluster nats://h", "address h: missing port in address"),
            (
                "--cluster nats://u@h:1",
                "expected cluster password to be set",
            ),
            (
                "--routes nats://a:1",
                "solicited routes require cluster capabilities, e.g. --cluster",
            ),
        ] {
            assert_eq!(apply(line), Err(text.to_owned()), "{line}");
        }
    }
}
