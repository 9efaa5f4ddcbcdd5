//! `export`: a stream of a stopped store as a backup archive, or as lines of JSON. The store is only
//! read.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use data_encoding::BASE64;
use millrace_archive::backup::{Item, Reader};
use millrace_archive::s2::Decoder;
use millrace_host::offline::{Access, Offline};
use serde_json::{Value, json};

use super::Ended;
use super::words::{Failure, Words};

pub(crate) const USAGE: &str = "\
Usage: millrace export [DIR] -s STREAM [options]

Writes a stream of the stopped store in DIR. The store is only read.

    -sd, --store_dir DIR   The store, if it is not named first
    -c, --config FILE      Take that, and the key of an encrypted store, from a configuration file
    -a, --account NAME     The stream's account ($G)
    -s, --stream NAME      The stream
    -f, --format FORMAT    json: one line for the stream, each consumer and each message (the default);
                           backup: the archive that `nats stream restore` takes
    -o, --output FILE      Where to (standard output)

Exit codes: 0 all is written; 1 it failed; 2 wrong use.
";

const INBOX: &str = "_EXPORT";
/// Largest message that is read back; nothing larger is stored.
const MESSAGE_BYTES_MAX: u64 = 1 << 30;

pub(crate) fn run(words: Words) -> Result<Ended, Failure> {
    let stream = words
        .option("stream")
        .ok_or_else(|| Failure::Usage("name the stream (-s)".to_owned()))?;
    let account = words.option("account").unwrap_or("$G").to_owned();
    let as_json = match words.option("format") {
        None | Some("json") => true,
        Some("backup") => false,
        Some(other) => return Err(Failure::Usage(format!("unknown format {other}"))),
    };
    let folder = words.needed_store_dir()?;
    let mut store = Offline::open(
        &folder,
        std::slice::from_ref(&account),
        Access::Read,
        &words.keys()?,
    )?;
    let mut out = output(&words)?;
    let failed = |error: io::Error| Failure::Other(format!("cannot write: {error}"));
    store.subscribe(&account, INBOX)?;
    let request = json!({"deliver_subject": INBOX}).to_string();
    let call = format!("$JS.API.STREAM.SNAPSHOT.{stream}");
    let answer = store.request(&account, &call, request.as_bytes())?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    if let Some(text) = answer["error"]["description"].as_str() {
        return Err(Failure::Other(text.to_owned()));
    }
    let mut lines = Lines::default();
    if as_json {
        let line = json!({"stream": answer["config"], "state": answer["state"]});
        writeln!(out, "{line}").map_err(failed)?;
    }
    loop {
        let chunk = store.receive(&account, INBOX)?;
        if !chunk.reply.is_empty() {
            store.publish(&account, &chunk.reply, "", b"")?;
        }
        if chunk.payload.is_empty() {
            ended_well(&chunk.headers)?;
            break;
        }
        if as_json {
            lines.take(&chunk.payload, &mut out)?;
        } else {
            out.write_all(&chunk.payload).map_err(failed)?;
        }
    }
    out.flush().map_err(failed)?;
    Ok(Ended::Well)
}

fn ended_well(headers: &[u8]) -> Result<(), Failure> {
    let status = headers.strip_prefix(b"NATS/1.0 ").unwrap_or(b"204");
    if status.starts_with(b"204") {
        return Ok(());
    }
    let text = String::from_utf8_lossy(status).trim().to_owned();
    Err(Failure::Other(format!("it ended early: {text}")))
}

fn output(words: &Words) -> Result<Box<dyn Write>, Failure> {
    match words.option("output") {
        None | Some("-") => Ok(Box::new(BufWriter::new(io::stdout()))),
        Some(path) => match File::create_new(path) {
            Ok(file) => Ok(Box::new(BufWriter::new(file))),
            Err(error) => Err(Failure::Other(format!("cannot make {path}: {error}"))),
        },
    }
}

/// An archive on its way to lines of JSON.
struct Lines {
    decoder: Decoder,
    reader: Reader,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            decoder: Decoder::default(),
            reader: Reader::new(MESSAGE_BYTES_MAX),
        }
    }
}

impl Lines {
    fn take(&mut self, chunk: &[u8], out: &mut dyn Write) -> Result<(), Failure> {
        self.decoder.push(chunk);
        let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
        while let Some(block) = self.decoder.next_block().map_err(|error| other(&error))? {
            self.reader.push(&block);
            while let Some(item) = self.reader.next_item().map_err(|error| other(&error))? {
                if let Some(line) = line_of(item) {
                    writeln!(out, "{line}").map_err(|error| other(&error))?;
                }
            }
        }
        Ok(())
    }
}

fn line_of(item: Item) -> Option<Value> {
    match item {
        Item::State(_) | Item::End => None,
        Item::Consumer(consumer) => {
            let config: Value = serde_json::from_str(consumer.config.get()).unwrap_or_default();
            Some(json!({"consumer": consumer.name, "config": config, "state": consumer.state}))
        }
        Item::Message(message) => {
            let mut line = json!({
                "sequence": message.sequence,
                "time_ns": message.time_ns,
                "subject": String::from_utf8_lossy(&message.subject),
                "payload": BASE64.encode(&message.payload),
            });
            if !message.headers.is_empty() {
                line["headers"] = json!(BASE64.encode(&message.headers));
            }
            Some(line)
        }
    }
}
