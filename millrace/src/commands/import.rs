//! `import`: streams of a stopped reference server become ours. Its files are only read; each stream is
//! made an archive on the fly and goes through the restore of the API, so that it is checked, and
//! there as a whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_archive::backup::{self, ConsumerState};
use millrace_archive::filestore::{
    Block, Index, Record, meta_sum_matches, read_consumer_state, read_index, unpack_block,
};
use millrace_archive::s2::Encoder;
use millrace_host::offline::{Access, Offline};
use serde_json::{Map, Value, json};

use super::Ended;
use super::words::{Failure, Words};

pub(crate) const USAGE: &str = "\
Usage: millrace import DIR [options]

Copies streams, messages and consumers from the store directory DIR of a stopped nats-server. Nothing in DIR
is changed but that the folder 'millrace' is made in it, unless another place is named. A stream is copied as a
whole or not at all; one that is already there is left alone, so a broken off import can be repeated.

    -sd, --store_dir DIR   Where our store is or shall be (DIR)
    -c, --config FILE      Take that, and the key of an encrypted store, from a configuration file
    -a, --account NAME     Only this account
    -s, --stream NAME      Only this stream

Exit codes: 0 all is copied; 1 something could not be copied, or was damaged; 2 wrong use.
";

/// Bytes of an archive that are sent at once.
const CHUNK_BYTES: usize = 256 << 10;

pub(crate) fn run(words: Words) -> Result<Ended, Failure> {
    let [source] = &words.plain[..] else {
        return Err(Failure::Usage("name one store directory".to_owned()));
    };
    let source = PathBuf::from(source);
    let found = find_streams(&source, &words)?;
    if found.is_empty() {
        let text = format!("no streams of nats-server found in {}", source.display());
        return Err(Failure::Other(text));
    }
    let target = words.store_dir()?.unwrap_or_else(|| source.clone());
    let accounts: BTreeSet<String> = found.iter().map(|one| one.account.clone()).collect();
    let accounts: Vec<String> = accounts.into_iter().collect();
    let mut store = Offline::open(&target, &accounts, Access::Write, &words.keys()?)?;
    let mut ended = Ended::Well;
    for one in &found {
        let place = format!("{} > {}", one.account, one.name);
        match one.copy(&mut store) {
            Ok(report) => {
                println!("{place}: {}", report.text());
                for loss in &report.losses {
                    eprintln!("{place}: {loss}");
                    ended = Ended::WithLosses;
                }
            }
            Err(reason) => {
                eprintln!("{place}: not copied: {reason}");
                ended = Ended::WithLosses;
            }
        }
    }
    Ok(ended)
}

/// A stream of the reference.
struct Source {
    account: String,
    name: String,
    folder: PathBuf,
}

#[derive(Default)]
struct Report {
    messages: u64,
    consumers: usize,
    first_sequence: u64,
    last_sequence: u64,
    losses: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} messages (sequences {} to {}), {} consumers",
            self.messages, self.first_sequence, self.last_sequence, self.consumers
        );
        for note in &self.notes {
            text.push_str("; ");
            text.push_str(note);
        }
        text
    }
}

/// Folders in a folder, by name; those that begin with a dot are on their way out.
fn folders(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    found
}

fn find_streams(source: &Path, words: &Words) -> Result<Vec<Source>, Failure> {
    // The folder itself may be named, or the one above.
    let inner = source.join("jetstream");
    let root = if inner.is_dir() {
        inner
    } else {
        source.to_owned()
    };
    if !root.is_dir() {
        let text = format!("{} is not a folder", root.display());
        return Err(Failure::Other(text));
    }
    let wanted = |option: &str, name: &str| words.option(option).is_none_or(|one| one == name);
    let mut found = Vec::new();
    for (account, folder) in folders(&root) {
        if !wanted("account", &account) {
            continue;
        }
        for (name, folder) in folders(&folder.join("streams")) {
            if wanted("stream", &name) {
                let account = account.clone();
                found.push(Source {
                    account,
                    name,
                    folder,
                });
            }
        }
    }
    Ok(found)
}

/// A configuration with its sum.
fn read_meta(folder: &Path, key: &str) -> Result<Map<String, Value>, String> {
    if folder.join("meta.key").exists() {
        return Err(
            "it is encrypted: copy it with `nats stream backup` from a running nats-server that has \
             its key"
                .to_owned(),
        );
    }
    let read = |name: &str| {
        fs::read(folder.join(name)).map_err(|error| format!("{name} cannot be read: {error}"))
    };
    let (meta, sum) = (read("meta.inf")?, read("meta.sum")?);
    if !meta_sum_matches(key, &meta, &sum) {
        return Err("meta.inf is damaged (its sum does not fit)".to_owned());
    }
    match serde_json::from_slice(&meta) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("meta.inf is no object".to_owned()),
        Err(error) => Err(format!("meta.inf: {error}")),
    }
}

impl Source {
    fn copy(&self, store: &mut Offline) -> Result<Report, String> {
        let mut report = Report::default();
        let mut config = read_meta(&self.folder, &self.name)?;
        config.remove("Created");
        if config.get("num_replicas").and_then(Value::as_u64) > Some(1) {
            config.insert("num_replicas".to_owned(), json!(1));
            report.notes.push("one replica".to_owned());
        }
        let messages = Messages::look(self, &mut report)?;
        let consumers = self.consumers(&mut report);
        report.consumers = consumers.len();
        let request = json!({"config": config, "state": {}}).to_string();
        let call = format!("$JS.API.STREAM.RESTORE.{}", self.name);
        let answer = store.request(&self.account, &call, request.as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        refused(&answer)?;
        let subject = answer["deliver_subject"].as_str().unwrap_or_default();
        let mut sender = Sender {
            store,
            account: &self.account,
            subject,
            encoder: Encoder::default(),
            packed: Vec::new(),
        };
        let state = json!({
            "messages": 0,
            "bytes": 0,
            "first_seq": messages.first_sequence,
            "last_seq": messages.last_sequence,
            "consumer_count": consumers.len(),
        });
        let mut entry = Vec::new();
        backup::put_state(&mut entry, 0, state.to_string().as_bytes());
        for (name, config, state) in &consumers {
            let config = Value::Object(config.clone()).to_string();
            backup::put_consumer(&mut entry, 0, name, config.as_bytes(), state);
        }
        sender.send(&entry)?;
        messages.send(self, &mut sender, &mut report)?;
        sender.finish()?;
        report.first_sequence = messages.first_sequence;
        report.last_sequence = messages.last_sequence;
        Ok(report)
    }

    fn consumers(&self, report: &mut Report) -> Vec<(String, Map<String, Value>, ConsumerState)> {
        let mut found = Vec::new();
        for (name, folder) in folders(&self.folder.join("obs")) {
            let read =
                read_meta(&folder, &format!("{}/{name}", self.name)).and_then(|mut config| {
                    for field in ["Created", "Name"] {
                        config.remove(field);
                    }
                    config.insert("num_replicas".to_owned(), json!(0));
                    let state = match fs::read(folder.join("o.dat")) {
                        Ok(data) if !data.is_empty() => {
                            read_consumer_state(&data).map_err(|error| error.to_string())?
                        }
                        _ => ConsumerState::default(),
                    };
                    Ok((config, state))
                });
            match read {
                Ok((config, state)) => found.push((name, config, state)),
                Err(reason) => report
                    .losses
                    .push(format!("consumer {name} is left out: {reason}")),
            }
        }
        found
    }

    /// Its blocks in order, by number.
    fn blocks(&self) -> Vec<(u64, PathBuf)> {
        let mut found = Vec::new();
        let entries = fs::read_dir(self.folder.join("msgs"));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_suffix(".blk").and_then(|name| name.parse().ok());
            if let Some(number) = number {
                found.push((number, entry.path()));
            }
        }
        found.sort();
        found
    }

    fn block(&self, number: u64, path: &Path) -> Result<Block, String> {
        let data = fs::read(path).map_err(|error| error.to_string())?;
        let plain = unpack_block(Bytes::from(data)).map_err(|error| error.to_string())?;
        Ok(Block::new(&self.name, number, plain))
    }
}

fn refused(answer: &Value) -> Result<(), String> {
    match answer["error"]["description"].as_str() {
        Some(text) => Err(text.to_owned()),
        None => Ok(()),
    }
}

/// What a stream's blocks hold, known before they are read a second time to be sent.
struct Messages {
    first_sequence: u64,
    last_sequence: u64,
    /// Gone, though a block may still have them. Ascending.
    gone: Vec<u64>,
}

impl Messages {
    fn look(source: &Source, report: &mut Report) -> Result<Self, String> {
        let (mut gone, mut first, mut last) = (Vec::new(), u64::MAX, 0);
        let mut last_checksum = None;
        for (number, path) in source.blocks() {
            let block = source.block(number, &path);
            let block = block.map_err(|reason| format!("block {number}: {reason}"))?;
            for record in block.records() {
                let (sequence, is_gone) = match record {
                    Record::Message { sequence, .. } => (sequence, false),
                    Record::Erased { sequence, .. } | Record::Tombstone { sequence, .. } => {
                        (sequence, true)
                    }
                    Record::Damaged { offset } => {
                        report
                            .losses
                            .push(format!("block {number}: a damaged record at byte {offset}"));
                        continue;
                    }
                    Record::Cut { offset } => {
                        report
                            .losses
                            .push(format!("block {number} is cut at byte {offset}"));
                        continue;
                    }
                };
                last = last.max(sequence);
                if is_gone {
                    gone.push(sequence);
                } else {
                    first = first.min(sequence);
                }
            }
            last_checksum = block
                .last_checksum()
                .map(|sum| (number, sum))
                .or(last_checksum);
        }
        let mut found = Self {
            first_sequence: if first == u64::MAX { last + 1 } else { first },
            last_sequence: last,
            gone,
        };
        if let Some(index) = source.index() {
            let fits =
                last_checksum.is_none_or(|known| known == (index.last_block, index.last_checksum));
            if fits {
                found.first_sequence = index.first_sequence;
                found.last_sequence = index.last_sequence.max(last);
                found
                    .gone
                    .extend(index.blocks.into_iter().flat_map(|block| block.deleted));
            }
        }
        if found.last_sequence == 0 {
            found.first_sequence = 0;
        }
        found.gone.sort_unstable();
        found.gone.dedup();
        Ok(found)
    }

    fn send(
        &self,
        source: &Source,
        sender: &mut Sender<'_>,
        report: &mut Report,
    ) -> Result<(), String> {
        let mut sent = self.first_sequence.saturating_sub(1);
        let mut entry = Vec::new();
        for (number, path) in source.blocks() {
            let block = source.block(number, &path)?;
            for record in block.records() {
                let Record::Message {
                    sequence,
                    time_ns,
                    subject,
                    headers,
                    payload,
                } = record
                else {
                    continue;
                };
                if sequence <= sent || self.gone.binary_search(&sequence).is_ok() {
                    continue;
                }
                sent = sequence;
                entry.clear();
                let length = payload.len();
                backup::put_message_head(&mut entry, &subject, sequence, time_ns, &headers, length);
                entry.extend_from_slice(&payload);
                sender.send(&entry)?;
                report.messages += 1;
            }
        }
        entry.clear();
        backup::put_end(&mut entry);
        sender.send(&entry)
    }
}

impl Source {
    /// `index.db`, if it can be used.
    fn index(&self) -> Option<Index> {
        let data = fs::read(self.folder.join("msgs/index.db")).ok()?;
        read_index(&self.name, &data).ok()
    }
}

/// The way of an archive into our store.
struct Sender<'a> {
    store: &'a mut Offline,
    account: &'a str,
    subject: &'a str,
    encoder: Encoder,
    packed: Vec<u8>,
}

impl Sender<'_> {
    fn send(&mut self, plain: &[u8]) -> Result<(), String> {
        self.encoder.write(plain, &mut self.packed);
        if self.packed.len() >= CHUNK_BYTES {
            self.send_packed()?;
        }
        Ok(())
    }

    fn send_packed(&mut self) -> Result<(), String> {
        let packed = std::mem::take(&mut self.packed);
        for chunk in packed.chunks(CHUNK_BYTES) {
            let answer = self.store.request(self.account, self.subject, chunk)?;
            if !answer.is_empty() {
                refused(&serde_json::from_slice(&answer).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), String> {
        self.encoder.flush(&mut self.packed);
        self.send_packed()?;
        let answer = self.store.request(self.account, self.subject, b"")?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        refused(&answer)
    }
}
