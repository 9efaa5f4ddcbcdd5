//! Scripts of what clients do with JetStream beyond single requests: publish, listen, wait, restart.
//! What they see is written below each step (`<`), as the reference showed it; both servers play
//! every script. The files are `tests/jetstream/*.txt`:
//!
//! ```text
//! === name                    a script; it begins with a server of its own
//! conf LINE                   a line of the configuration file (before the first step)
//! user NAME                   connects again, as this user with its name as password
//! api CALL BODY               a request; shows `ok` or the error
//! show CALL FIELDS BODY       a request; shows some fields of its answer: a.b,c
//! pub SUBJECT [K: v; K: v] P  a publish with its answer; headers are optional
//! send SUBJECT REPLY [..] P   a publish with this reply subject; shows nothing
//! many SUBJECT N M REPLY      the same for each `{n}` in the reply from N to M
//! listen SUBJECT              subscribes
//! ignore SUBJECT              ends it
//! hear N                      the next N messages of what is listened to
//! messages STREAM             all messages of a stream
//! until STREAM N              waits for the last sequence to be N
//! gone STREAM N               waits for the number of messages to be N
//! settle MS                   lets this time pass: nothing may happen that is to be seen
//! kill                        kills the server and starts it again on its data
//! down MS                     the same, with the server away for this time
//! ```
//!
//! `{in:2s}` stands for the time in two seconds, `{fill:9}` for nine bytes. `MILLRACE_CORPUS_RECORD=1` writes what the reference
//! shows into the files instead.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::raw::Message;
use millrace_tests::server::{millrace_binary, wait_for};
use millrace_tests::{RawClient, Server, ServerBuilder};
use serde_json::Value;

/// A script: its steps, each with what it showed.
#[derive(Clone, Debug, Default)]
struct Script {
    name: String,
    steps: Vec<(String, Vec<String>)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jetstream")
}

fn parse(text: &str) -> Vec<Script> {
    let mut scripts: Vec<Script> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("=== ") {
            scripts.push(Script {
                name: name.to_owned(),
                steps: Vec::new(),
            });
        } else if let Some(shown) = line.strip_prefix("< ") {
            let (_, all) = scripts.last_mut().unwrap().steps.last_mut().unwrap();
            all.push(shown.to_owned());
        } else if !line.starts_with('#') {
            let script = scripts.last_mut().unwrap();
            script.steps.push((line.to_owned(), Vec::new()));
        }
    }
    scripts
}

fn write(scripts: &[Script]) -> String {
    let mut text = String::new();
    for script in scripts {
        text.push_str(&format!("=== {}\n", script.name));
        for (step, shown) in &script.steps {
            text.push_str(&format!("{step}\n"));
            for line in shown {
                text.push_str(&format!("< {line}\n"));
            }
        }
        text.push('\n');
    }
    text
}

/// A client of a server under test.
struct Player {
    server: Option<Server>,
    binary: PathBuf,
    config: String,
    user: String,
    /// Asks.
    asker: RawClient,
    /// Listens and sends.
    listener: RawClient,
    listens: Vec<String>,
}

impl Player {
    fn start(binary: &Path, script: &Script) -> Self {
        let lines = script.steps.iter();
        let config: String = lines
            .filter_map(|(step, _)| step.strip_prefix("conf "))
            .map(|line| format!("{line}\n"))
            .collect();
        let server = builder(binary, &config).start();
        Self {
            asker: log_in(&server.address, ""),
            listener: log_in(&server.address, ""),
            server: Some(server),
            binary: binary.to_path_buf(),
            config,
            user: String::new(),
            listens: Vec::new(),
        }
    }

    fn connect(&mut self) {
        let address = self.server.as_ref().unwrap().address.clone();
        self.asker = log_in(&address, &self.user);
        self.listener = log_in(&address, &self.user);
        for (number, subject) in self.listens.iter().enumerate() {
            let line = format!("SUB {subject} {}\r\n", number + 1);
            self.listener.send(line.as_bytes());
        }
        self.listener.sync();
    }

    fn request(&mut self, subject: &str, headers: &[u8], payload: &[u8]) -> Message {
        self.asker.request_with_headers(subject, headers, payload)
    }

    fn api(&mut self, call: &str, body: &str) -> Value {
        let subject = format!("$JS.API.{call}");
        self.request(&subject, b"", body.as_bytes()).json()
    }

    fn state(&mut self, stream: &str) -> Value {
        self.api(&format!("STREAM.INFO.{stream}"), "")["state"].clone()
    }

    fn messages(&mut self, stream: &str) -> Vec<String> {
        let mut shown = Vec::new();
        let mut next = 1;
        loop {
            let body = format!("{{\"seq\":{next},\"next_by_subj\":\">\"}}");
            let answer = self.api(&format!("STREAM.MSG.GET.{stream}"), &body);
            let Some(message) = answer.get("message") else {
                return shown;
            };
            next = message["seq"].as_u64().unwrap() + 1;
            let text = |field: &str| {
                let encoded = message[field].as_str().unwrap_or_default();
                let decoded = BASE64.decode(encoded.as_bytes()).unwrap();
                String::from_utf8_lossy(&decoded).into_owned()
            };
            shown.push(format!(
                "{} {} {}{}",
                message["seq"],
                message["subject"].as_str().unwrap(),
                headers_text(&text("hdrs")),
                text("data")
            ));
        }
    }

    fn step(&mut self, step: &str) -> Vec<String> {
        let step = with_fill(&with_times(step));
        let (verb, rest) = step.split_once(' ').unwrap_or((&step, ""));
        match verb {
            "conf" => Vec::new(),
            "user" => {
                rest.clone_into(&mut self.user);
                self.connect();
                Vec::new()
            }
            "api" => {
                let (call, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let answer = self.api(call, body);
                vec![outcome(&answer)]
            }
            "show" => self.show(rest),
            "pub" => {
                let (subject, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (headers, payload) = headers_of(rest);
                let answer = self.request(subject, &headers, payload.as_bytes());
                let status = String::from_utf8_lossy(&answer.headers).into_owned();
                vec![format!("{}{}", headers_text(&status), answer.text())]
            }
            "send" => {
                let (subject, rest) = rest.split_once(' ').unwrap();
                let (reply, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (headers, payload) = headers_of(rest);
                self.listener
                    .publish(subject, reply, &headers, payload.as_bytes());
                Vec::new()
            }
            "many" => self.send_many(rest),
            "listen" => {
                self.listens.push(rest.to_owned());
                let line = format!("SUB {rest} {}\r\n", self.listens.len());
                self.listener.send(line.as_bytes());
                self.listener.sync();
                Vec::new()
            }
            "ignore" => {
                let number = self.listens.iter().position(|it| it == rest).unwrap() + 1;
                let line = format!("UNSUB {number}\r\n");
                self.listener.send(line.as_bytes());
                self.listener.sync();
                Vec::new()
            }
            "hear" => {
                let count: usize = rest.parse().unwrap();
                let heard = (0..count).map(|_| self.listener.read_message());
                heard.map(|message| shown(&message)).collect()
            }
            "messages" => self.messages(rest),
            "until" => self.wait(rest, "last_seq"),
            "gone" => self.wait(rest, "messages"),
            "settle" => {
                std::thread::sleep(Duration::from_millis(rest.parse().unwrap()));
                Vec::new()
            }
            "kill" => self.start_again(Duration::ZERO),
            "down" => self.start_again(Duration::from_millis(rest.parse().unwrap())),
            other => panic!("no such step: {other}"),
        }
    }

    fn send_many(&mut self, rest: &str) -> Vec<String> {
        let words: Vec<&str> = rest.split(' ').collect();
        let (from, to): (u64, u64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
        for number in from..=to {
            let reply = words[3].replace("{n}", &number.to_string());
            self.listener.publish(words[0], &reply, b"", b"x");
        }
        Vec::new()
    }

    /// Kills the server, and starts it on its data after a while.
    fn start_again(&mut self, away: Duration) -> Vec<String> {
        let builder = builder(&self.binary, &self.config);
        let mut server = self.server.take().unwrap();
        server.kill_and_stay(away);
        self.server = Some(server.restart(builder));
        self.connect();
        self.wait_for_jetstream();
        Vec::new()
    }

    fn wait_for_jetstream(&mut self) {
        wait_for("JetStream", || {
            let answer = self.request("$JS.API.INFO", b"", b"");
            (!answer.payload.is_empty()).then_some(())
        });
    }

    fn show(&mut self, rest: &str) -> Vec<String> {
        let mut words = rest.splitn(3, ' ');
        let (call, fields) = (words.next().unwrap(), words.next().unwrap());
        let answer = self.api(call, words.next().unwrap_or_default());
        if answer.get("error").is_some() {
            return vec![outcome(&answer)];
        }
        let fields = fields.split(',');
        let shown = fields.map(|field| {
            let value = field.split('.').fold(&answer, |value, name| &value[name]);
            format!("{field}={}", without_times(&value.to_string()))
        });
        vec![shown.collect::<Vec<_>>().join(" ")]
    }

    fn wait(&mut self, rest: &str, field: &str) -> Vec<String> {
        let (stream, wanted) = rest.split_once(' ').unwrap();
        let wanted: u64 = wanted.parse().unwrap();
        wait_for(rest, || {
            (self.state(stream)[field].as_u64() == Some(wanted)).then_some(())
        });
        Vec::new()
    }
}

/// A connection that has said who it is.
fn log_in(address: &str, user: &str) -> RawClient {
    let mut client = RawClient::connect(address);
    client.read_line();
    let login = match user {
        "" => String::new(),
        user => format!("\"user\":\"{user}\",\"pass\":\"{user}\","),
    };
    let connect =
        format!("CONNECT {{{login}\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\n");
    client.send(connect.as_bytes());
    client.flush();
    client
}

fn builder(binary: &Path, config: &str) -> ServerBuilder {
    let builder = ServerBuilder::binary(binary.to_path_buf()).jetstream();
    if config.is_empty() {
        builder
    } else {
        builder.config(config)
    }
}

/// `ok`, or the error.
fn outcome(answer: &Value) -> String {
    match answer.get("error") {
        Some(error) => format!(
            "{} {} {}",
            error["code"],
            error["err_code"],
            error["description"].as_str().unwrap_or_default()
        ),
        None => "ok".to_owned(),
    }
}

fn shown(message: &Message) -> String {
    let headers = String::from_utf8_lossy(&message.headers).into_owned();
    let text = String::from_utf8_lossy(&message.payload).into_owned();
    let text = text.replace("\r\n", "|");
    // An event has an id of its own.
    let text = match serde_json::from_str::<Value>(&text) {
        Ok(mut json) if json.get("id").is_some() => {
            json["id"] = Value::from("I");
            json.to_string()
        }
        _ => text,
    };
    without_times(&format!(
        "{} {}{text}",
        message.subject,
        headers_text(&headers)
    ))
}

/// A header block on one line.
fn headers_text(block: &str) -> String {
    if block.is_empty() {
        return String::new();
    }
    let lines = block.trim_end().split("\r\n").skip(1);
    let status = block
        .strip_prefix("NATS/1.0 ")
        .and_then(|rest| rest.split("\r\n").next());
    let all: Vec<&str> = status.into_iter().chain(lines).collect();
    without_times(&format!("[{}] ", all.join("; ")))
}

/// The headers at the front of a step's rest, and the payload behind them.
fn headers_of(rest: &str) -> (Vec<u8>, &str) {
    let Some((headers, payload)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    else {
        return (Vec::new(), rest);
    };
    let mut block = "NATS/1.0\r\n".to_owned();
    for header in headers.split("; ") {
        block.push_str(header);
        block.push_str("\r\n");
    }
    block.push_str("\r\n");
    (
        block.into_bytes(),
        payload.strip_prefix(' ').unwrap_or(payload),
    )
}

/// Fills in `{in:2s}` and `{in:-2s}`.
fn with_times(step: &str) -> String {
    let Some((before, rest)) = step.split_once("{in:") else {
        return step.to_owned();
    };
    let (seconds, after) = rest.split_once("s}").unwrap();
    let seconds: f64 = seconds.parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now.as_secs_f64() + seconds;
    format!("{before}{}{}", time_text(then), with_times(after))
}

/// Fills in `{fill:9}`.
fn with_fill(step: &str) -> String {
    let Some((before, rest)) = step.split_once("{fill:") else {
        return step.to_owned();
    };
    let (length, after) = rest.split_once('}').unwrap();
    let filling = "x".repeat(length.parse().unwrap());
    format!("{before}{filling}{}", with_fill(after))
}

/// A time since the epoch as RFC 3339 has it.
fn time_text(seconds: f64) -> String {
    let whole = seconds.floor() as i64;
    let (days, second) = (whole.div_euclid(86_400), whole.rem_euclid(86_400));
    // Days of the civil calendar, counted from the 1st of March of the year 0.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year_of_era + era * 400 + next_year;
    let micros = ((seconds - seconds.floor()) * 1e6) as i64;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Replaces times of day by `T`: they are never the same twice.
fn without_times(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let is_time = |at: usize| {
        let part = bytes.get(at..at + 20)?;
        let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18];
        let fits = digits.iter().all(|place| part[*place].is_ascii_digit())
            && part[4] == b'-'
            && part[10] == b'T'
            && part[13] == b':'
            && bytes[at..at + 4] >= b"2025"[..];
        let rest = &bytes[at + 19..];
        let length = rest
            .iter()
            .position(|byte| !(byte.is_ascii_digit() || b".:+-".contains(byte)))
            .unwrap_or(rest.len());
        let zulu = usize::from(rest.get(length) == Some(&b'Z'));
        fits.then_some(19 + length + zulu)
    };
    let mut at = 0;
    while at < bytes.len() {
        if let Some(length) = is_time(at) {
            out.push('T');
            at += length;
        } else {
            let next = text[at..].chars().next().unwrap();
            out.push(next);
            at += next.len_utf8();
        }
    }
    out
}

/// Plays one script; what its steps showed.
fn play(binary: &Path, script: &Script) -> Vec<Vec<String>> {
    let mut player = Player::start(binary, script);
    let steps = script.steps.iter();
    let shown = steps.map(|(step, _)| {
        // Shown when a step does not come to its end.
        eprintln!("{}: {step}", script.name);
        player.step(step)
    });
    let shown = shown.collect();
    player.listener.sync();
    let rest = String::from_utf8_lossy(player.listener.unread()).into_owned();
    // A server asks now and then whether somebody is there.
    let rest = rest.replace("PING\r\n", "");
    assert!(
        rest.is_empty(),
        "{}: heard and not asked for: {rest}",
        script.name
    );
    shown
}

fn differences(binary: &Path, script: &Script) -> String {
    let mut text = String::new();
    for ((step, expected), shown) in script.steps.iter().zip(play(binary, script)) {
        if *expected != shown {
            text.push_str(&format!(
                "{}: {step}\n  expected {expected:#?}\n  got      {shown:#?}\n",
                script.name
            ));
        }
    }
    text
}

/// Plays all scripts of a file, a few at a time: most of them wait for time to pass.
fn differences_of_all(binary: &Path, scripts: &[Script]) -> String {
    const AT_ONCE: usize = 8;
    let mut found = BTreeMap::new();
    for (row, some) in scripts.chunks(AT_ONCE).enumerate() {
        std::thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|script| scope.spawn(|| differences(binary, script)))
                .collect();
            for (place, thread) in running.into_iter().enumerate() {
                let text = thread.join().unwrap_or_else(|_| {
                    format!("{}: ended in a panic, see above\n", some[place].name)
                });
                found.insert((row, place), text);
            }
        });
    }
    found.into_values().collect()
}

fn scripts_of(file: &str) -> (PathBuf, Vec<Script>) {
    let path = folder().join(file).with_extension("txt");
    let scripts = parse(&std::fs::read_to_string(&path).unwrap());
    assert!(!scripts.is_empty());
    (path, scripts)
}

fn check_millrace(file: &str) {
    let (_, scripts) = scripts_of(file);
    let text = differences_of_all(&millrace_binary(), &scripts);
    assert!(text.is_empty(), "{text}");
}

fn check_reference(file: &str) {
    let Some(binary) = reference_binary() else {
        skip(file, "no reference server to ask");
        return;
    };
    let (path, mut scripts) = scripts_of(file);
    if std::env::var_os("MILLRACE_CORPUS_RECORD").is_some() {
        for script in &mut scripts {
            let shown = play(&binary, script);
            for ((_, old), new) in script.steps.iter_mut().zip(shown) {
                *old = new;
            }
        }
        std::fs::write(path, write(&scripts)).unwrap();
        return;
    }
    let text = differences_of_all(&binary, &scripts);
    assert!(text.is_empty(), "{text}");
}

/// One test per file and server.
macro_rules! files {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        mod reference {
            $(#[test] fn $name() { super::check_reference(stringify!($name)); })*
        }
    };
}

files!(
    republish,
    stream_guards,
    account_limits,
    errors,
    schedules,
    markers,
    fast_ingest,
    direct_sizes,
    flow_control_acks
);

// proves: JS-SCH-01, JS-SCH-02, JS-SCH-03, JS-SCH-04
#[test]
fn schedules_fire_as_those_of_the_reference() {
    check_millrace("schedules");
}

// proves: JS-TTL-03, JS-KV-04
#[test]
fn subjects_that_expire_leave_the_references_markers() {
    check_millrace("markers");
}

// proves: JS-STR-24
#[test]
fn what_is_stored_is_published_again_as_by_the_reference() {
    check_millrace("republish");
}

// proves: JS-STR-20, JS-STR-21, JS-STR-22, JS-STR-26, JS-STR-29
#[test]
fn guards_limits_and_placement_of_streams_are_the_references() {
    check_millrace("stream_guards");
}

// proves: JS-API-09, JS-LIM-01, JS-LIM-02, JS-LIM-04
#[test]
fn limits_of_server_and_accounts_are_the_references() {
    check_millrace("account_limits");
}

#[test]
fn requests_that_are_refused_hear_the_references_errors() {
    check_millrace("errors");
}

// proves: JS-FI-01, JS-FI-02, JS-FI-03
#[test]
fn fast_ingest_tells_what_the_reference_tells() {
    check_millrace("fast_ingest");
}

// proves: JS-DG-02
#[test]
fn direct_gets_of_bounded_size_end_where_those_of_the_reference_do() {
    check_millrace("direct_sizes");
}

// proves: JS-CON-30
#[test]
fn acknowledgement_by_flow_control_is_created_by_the_references_rules() {
    check_millrace("flow_control_acks");
}
