//! Raw protocol scripts (`tests/corpus/*.txt`): what connections send and what the reference
//! answered. One file holds many scripts; who plays them (the broker alone, the real binary, the
//! reference) is decided elsewhere, so nothing here touches a socket.
//!
//! ```text
//! === name of the script                  begins a script
//! # proves: PRO-09                        kept as it is
//! config: max_payload: 100                a line of the server's configuration
//! open a                                  connects and drops the first INFO (`open+ a` keeps it)
//! a> SUB foo 1                            sends a line and CR LF
//! a>| SUB f                               sends bytes without CR LF
//! a>* 1000 x                              sends `x` so many times without CR LF
//! a> PUB {reply:b} 1                      the reply subject of what `b` received last
//! a?                                      reads; the lines below are what must come
//! a< MSG foo 1 2                          a line and CR LF
//! a<| hi                                  bytes without CR LF
//! a< <EOF>                                the server closed the connection
//! wait 1200                               lets milliseconds pass
//! close a                                 closes from this side
//! ```
//! Escapes: `\r \n \t \s \\ \xNN`.

use std::fmt::Write as _;

/// Marks a closed connection in expected answers.
pub const END: &str = "<EOF>";
const CRLF: &str = "\r\n";

/// One thing a script does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A comment or blank line, kept for rewriting.
    Comment(String),
    Open {
        name: String,
        keeps_info: bool,
    },
    Send {
        name: String,
        bytes: Vec<u8>,
        source: String,
        /// Leaves at once, apart from what comes behind it.
        is_piece: bool,
    },
    /// Reads until `expected` came.
    Read {
        name: String,
        expected: Vec<u8>,
        is_closed: bool,
    },
    Wait {
        milliseconds: u64,
    },
    Close {
        name: String,
    },
}

/// One script with the configuration its server needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub name: String,
    pub config: String,
    pub steps: Vec<Step>,
}

/// Reads all scripts of one file.
///
/// # Errors
/// The line that makes no sense.
pub fn parse(text: &str) -> Result<Vec<Script>, String> {
    let mut scripts: Vec<Script> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            let name = name.trim().to_owned();
            scripts.push(Script {
                name,
                config: String::new(),
                steps: Vec::new(),
            });
            continue;
        }
        let Some(script) = scripts.last_mut() else {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            return Err(format!("before the first script: {line}"));
        };
        parse_line(script, line).ok_or_else(|| format!("{}: {line}", script.name))?;
    }
    Ok(scripts)
}

fn parse_line(script: &mut Script, line: &str) -> Option<()> {
    if line.trim().is_empty() || line.starts_with('#') {
        script.steps.push(Step::Comment(line.to_owned()));
        return Some(());
    }
    if let Some(config) = line.strip_prefix("config:") {
        script
            .config
            .push_str(config.strip_prefix(' ').unwrap_or(config));
        script.config.push('\n');
        return Some(());
    }
    let words: Vec<&str> = line.split(' ').collect();
    let step = match words[..] {
        ["open", name] => Step::Open {
            name: name.to_owned(),
            keeps_info: false,
        },
        ["open+", name] => Step::Open {
            name: name.to_owned(),
            keeps_info: true,
        },
        ["close", name] => Step::Close {
            name: name.to_owned(),
        },
        ["wait", milliseconds] => Step::Wait {
            milliseconds: milliseconds.parse().ok()?,
        },
        _ => return parse_exchange(script, line),
    };
    script.steps.push(step);
    Some(())
}

fn parse_exchange(script: &mut Script, line: &str) -> Option<()> {
    let at = line.find(['>', '<', '?'])?;
    let (name, rest) = line.split_at(at);
    let name = name.to_owned();
    let (mark, rest) = rest.split_at(1);
    let is_raw = rest.starts_with('|');
    let is_repeat = rest.starts_with('*');
    let text = if is_raw || is_repeat {
        &rest[1..]
    } else {
        rest
    };
    let text = text.strip_prefix(' ').unwrap_or(text);
    match mark {
        "?" => {
            script.steps.push(Step::Read {
                name,
                expected: Vec::new(),
                is_closed: false,
            });
        }
        ">" => {
            let mut bytes = if is_repeat {
                let (count, piece) = text.split_once(' ')?;
                unescape(piece)?.repeat(count.parse().ok()?)
            } else {
                unescape(text)?
            };
            if !is_raw && !is_repeat {
                bytes.extend_from_slice(CRLF.as_bytes());
            }
            script.steps.push(Step::Send {
                name,
                bytes,
                source: line.to_owned(),
                is_piece: is_raw || is_repeat,
            });
        }
        _ => match script.steps.last_mut()? {
            Step::Read {
                name: reader,
                expected,
                is_closed,
            } if *reader == name => {
                if text == END {
                    *is_closed = true;
                } else {
                    expected.extend_from_slice(&unescape(text)?);
                    if !is_raw {
                        expected.extend_from_slice(CRLF.as_bytes());
                    }
                }
            }
            _ => return None,
        },
    }
    Some(())
}

/// Writes scripts back as text, answers included.
#[must_use]
pub fn format(scripts: &[Script]) -> String {
    let mut out = String::new();
    for script in scripts {
        let _ = writeln!(out, "=== {}", script.name);
        for line in script.config.lines() {
            let _ = writeln!(out, "config: {line}");
        }
        for step in &script.steps {
            format_step(&mut out, step);
        }
    }
    out
}

fn format_step(out: &mut String, step: &Step) {
    // Writing to a String cannot fail.
    let _ = match step {
        Step::Comment(text) => writeln!(out, "{text}"),
        Step::Open {
            name,
            keeps_info: false,
        } => writeln!(out, "open {name}"),
        Step::Open {
            name,
            keeps_info: true,
        } => writeln!(out, "open+ {name}"),
        Step::Send { source, .. } => writeln!(out, "{source}"),
        Step::Wait { milliseconds } => writeln!(out, "wait {milliseconds}"),
        Step::Close { name } => writeln!(out, "close {name}"),
        Step::Read {
            name,
            expected,
            is_closed,
        } => {
            let _ = writeln!(out, "{name}?");
            let mut rest = &expected[..];
            while !rest.is_empty() {
                let end = rest.windows(2).position(|pair| pair == CRLF.as_bytes());
                let (line, after, mark) = match end {
                    Some(end) => (&rest[..end], &rest[end + 2..], "<"),
                    None => (rest, &rest[rest.len()..], "<|"),
                };
                let _ = writeln!(
                    out,
                    "{}",
                    format!("{name}{mark} {}", escape(line)).trim_end()
                );
                rest = after;
            }
            if *is_closed {
                let _ = writeln!(out, "{name}< {END}");
            }
            Ok(())
        }
    };
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b's' => b' ',
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' ' if place + 1 == bytes.len() => text.push_str("\\s"),
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// Keys of INFO whose values differ from server to server and run to run.
const VARYING: [&str; 6] = [
    "server_id",
    "server_name",
    "go",
    "port",
    "client_id",
    "nonce",
];
/// Keys that may be left out: `git_commit` is unknown in some builds, and `xkey` only serves the
/// encryption of auth callouts.
const OPTIONAL: [&str; 2] = ["git_commit", "xkey"];
/// Keys that only Millrace sends.
const OURS: [&str; 2] = ["implementation", "millrace"];

/// Replaces in every INFO line what cannot be the same on two servers.
#[must_use]
pub fn normalise(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let info = line.strip_prefix(b"INFO ").and_then(|rest| {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(rest).ok()
        });
        let Some(mut info) = info else {
            out.extend_from_slice(&mask_reply(line));
            continue;
        };
        for key in VARYING {
            if let Some(value) = info.get_mut(key) {
                *value = "*".into();
            }
        }
        for key in OPTIONAL {
            info.shift_remove(key);
        }
        for key in OURS {
            info.shift_remove(key);
        }
        let json = serde_json::Value::Object(info).to_string();
        out.extend_from_slice(format!("INFO {json} \r\n").as_bytes());
    }
    mask_request_info(&out)
}

/// How reply subjects of imported services begin, and how they look in expected answers.
const SERVICE_REPLY: &[u8] = b"_R_.";
const MASKED_REPLY: &[u8] = b"_R_.*";

fn mask_reply(line: &[u8]) -> Vec<u8> {
    let Some(at) = line.windows(4).position(|part| part == SERVICE_REPLY) else {
        return line.to_vec();
    };
    let rest = &line[at + SERVICE_REPLY.len()..];
    let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && *byte != b'.';
    let end = rest.iter().position(is_end).unwrap_or(rest.len());
    if end < 13 {
        return line.to_vec();
    }
    [&line[..at], MASKED_REPLY, &rest[end..]].concat()
}

/// Masks the round trip in `Nats-Request-Info`, and the sizes of the message that has it.
fn mask_request_info(bytes: &[u8]) -> Vec<u8> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut message = None;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"HMSG ") {
            message = Some(out.len());
        }
        let text = String::from_utf8_lossy(line);
        let Some(at) = text
            .strip_prefix("Nats-Request-Info: ")
            .and_then(|_| text.find("\"rtt\":"))
        else {
            out.push(line.to_vec());
            continue;
        };
        let (before, after) = text.split_at(at + 6);
        let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        if let Some(place) = message.take() {
            let start = String::from_utf8_lossy(&out[place]).into_owned();
            let words: Vec<&str> = start.trim_end().split(' ').collect();
            let masked = format!("{} * *\r\n", words[..words.len() - 2].join(" "));
            out[place] = masked.into_bytes();
        }
        out.push(format!("{before}*{after}").into_bytes());
    }
    out.concat()
}

/// Fills `{reply:name}` with the reply subject that `of` gives for a connection.
#[must_use]
pub fn fill(bytes: &[u8], of: impl Fn(&str) -> String) -> Vec<u8> {
    const OPEN: &str = "{reply:";
    let Ok(text) = std::str::from_utf8(bytes) else {
        return bytes.to_vec();
    };
    let Some((before, rest)) = text.split_once(OPEN) else {
        return bytes.to_vec();
    };
    let (name, after) = rest.split_once('}').unwrap_or((rest, ""));
    format!("{before}{}{after}", of(name)).into_bytes()
}

/// The reply subject of the last message in what was received.
#[must_use]
pub fn last_reply(received: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(received);
    text.lines().rev().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["MSG", _, _, reply, _] | ["HMSG", _, _, reply, _, _] => Some(reply.to_owned()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_survive_being_written_and_read() {
        let text = "=== one\nconfig: a: 1\n# proves: X\nopen a\na> SUB f\\x00 1\na>| x\\s\na?\n\
                    a< MSG f 1 2\na<| h\\xff\na< <EOF>\nwait 5\na>* 3 ab\nclose a\n\n";
        let scripts = parse(text).expect("a script");
        assert_eq!(format(&scripts), text);
        assert_eq!(parse(&format(&scripts)).expect("again"), scripts);
    }

    #[test]
    fn what_varies_in_requests_from_other_accounts_is_masked() {
        let message = b"HMSG svc 1 _R_.abc123.def456 70 71\r\nNATS/1.0\r\n\
                        Nats-Request-Info: {\"acc\":\"B\",\"rtt\":512}\r\n\r\nx\r\n";
        let masked = "HMSG svc 1 _R_.* * *\r\nNATS/1.0\r\n\
                      Nats-Request-Info: {\"acc\":\"B\",\"rtt\":*}\r\n\r\nx\r\n";
        assert_eq!(String::from_utf8_lossy(&normalise(message)), masked);
        assert_eq!(last_reply(message).as_deref(), Some("_R_.abc123.def456"));
        let filled = fill(b"PUB {reply:a} 1", |_| "_R_.x".to_owned());
        assert_eq!(filled, b"PUB _R_.x 1");
    }

    #[test]
    fn what_varies_in_info_is_masked() {
        let info = b"INFO {\"server_id\":\"N\",\"max_payload\":5,\"millrace\":\"1\"} \r\nPONG\r\n";
        let masked = "INFO {\"server_id\":\"*\",\"max_payload\":5} \r\nPONG\r\n";
        assert_eq!(String::from_utf8_lossy(&normalise(info)), masked);
    }
}
