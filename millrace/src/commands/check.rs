//! `check` and `repair`: every message of a stopped store is read and checked.

use millrace_config::options::JetStreamOptions;
use millrace_host::offline::{Access, Offline};
use serde_json::{Value, json};
use std::path::Path;

use super::Ended;
use super::words::{Failure, Words};

pub(crate) const USAGE: &str = "\
Usage: millrace check [DIR] [options]

Reads the journal and every message of the stopped store in DIR and tells what is damaged or lost. The store
is only read.

    -sd, --store_dir DIR   The store, if it is not named first
    -c, --config FILE      Take that, and the key of an encrypted store, from a configuration file

Exit codes: 0 all is well; 1 something is damaged or lost, or the store cannot be opened; 2 wrong use.
";

pub(crate) const REPAIR_USAGE: &str = "\
Usage: millrace repair [DIR] [options]

As check; then removes the messages that are damaged, so that consumers, backups and copies get past them. Their
sequences stay gaps. What is readable stays as it is. There is no way back: make a copy first.

    -sd, --store_dir DIR   The store, if it is not named first
    -c, --config FILE      Take that, and the key of an encrypted store, from a configuration file

Exit codes: 0 all is well, or was repaired; 1 it failed; 2 wrong use.
";

/// Messages asked for at once.
const BATCH: u64 = 1_000;

pub(crate) fn run(words: Words) -> Result<Ended, Failure> {
    let folder = words.needed_store_dir()?;
    let mut store = open(&folder, Access::Read, &words.keys()?)?;
    let found = look(&mut store)?;
    Ok(if found.is_well {
        Ended::Well
    } else {
        Ended::WithLosses
    })
}

pub(crate) fn repair(words: Words) -> Result<Ended, Failure> {
    let folder = words.needed_store_dir()?;
    let mut store = open(&folder, Access::Write, &words.keys()?)?;
    let found = look(&mut store)?;
    for (account, stream, sequence) in &found.damaged {
        let call = format!("$JS.API.STREAM.MSG.DELETE.{stream}");
        let request = json!({"seq": sequence, "no_erase": true}).to_string();
        let answer = ask(&mut store, account, &call, &request)?;
        match answer["error"]["description"].as_str() {
            None => println!("{account} > {stream}: message {sequence} is removed"),
            Some(text) => {
                let text = format!("{account} > {stream}: message {sequence} stays: {text}");
                return Err(Failure::Other(text));
            }
        }
    }
    Ok(Ended::Well)
}

/// Opens a store with all accounts that have streams in it.
fn open(folder: &Path, access: Access, keys: &JetStreamOptions) -> Result<Offline, Failure> {
    let global = vec!["$G".to_owned()];
    let store = Offline::open(folder, &global, Access::Read, keys)?;
    let mut accounts = store.stored_accounts();
    drop(store);
    if accounts.is_empty() {
        accounts = global;
    }
    Ok(Offline::open(folder, &accounts, access, keys)?)
}

#[derive(Default)]
struct Found {
    is_well: bool,
    /// Account, stream, sequence.
    damaged: Vec<(String, String, u64)>,
}

fn ask(store: &mut Offline, account: &str, call: &str, body: &str) -> Result<Value, Failure> {
    let answer = store.request(account, call, body.as_bytes())?;
    serde_json::from_slice(&answer).map_err(|error| Failure::Other(error.to_string()))
}

fn look(store: &mut Offline) -> Result<Found, Failure> {
    let mut found = Found {
        is_well: true,
        ..Found::default()
    };
    tell_alarms(store, &mut found);
    for account in store.stored_accounts() {
        let mut offset = 0;
        loop {
            let body = json!({"offset": offset}).to_string();
            let page = ask(store, &account, "$JS.API.STREAM.NAMES", &body)?;
            let names: Vec<String> = page["streams"]
                .as_array()
                .map(|names| {
                    let names = names.iter().filter_map(Value::as_str);
                    names.map(str::to_owned).collect()
                })
                .unwrap_or_default();
            if names.is_empty() {
                break;
            }
            offset += names.len();
            for name in names {
                look_at_stream(store, &account, &name, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// Reads every message; what the store says meanwhile is told.
fn look_at_stream(
    store: &mut Offline,
    account: &str,
    stream: &str,
    found: &mut Found,
) -> Result<(), Failure> {
    let call = format!("$JS.API.STREAM.INFO.{stream}");
    let info = ask(store, account, &call, r#"{"deleted_details":true}"#)?;
    if let Some(text) = info["error"]["description"].as_str() {
        eprintln!("{account} > {stream}: cannot be opened: {text}");
        found.is_well = false;
        return Ok(());
    }
    let number = |field: &str| info["state"][field].as_u64().unwrap_or_default();
    let (first, last) = (number("first_seq"), number("last_seq"));
    let mut deleted: Vec<u64> = info["state"]["deleted"]
        .as_array()
        .map(|all| all.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    deleted.sort_unstable();
    let (mut read, mut damaged) = (0u64, 0u64);
    if number("messages") > 0 {
        for sequence in first..=last {
            if deleted.binary_search(&sequence).is_ok() {
                continue;
            }
            let call = format!("$JS.API.STREAM.MSG.GET.{stream}");
            let answer = ask(store, account, &call, &format!("{{\"seq\":{sequence}}}"))?;
            if answer.get("error").is_some() {
                damaged += 1;
                let place = (account.to_owned(), stream.to_owned(), sequence);
                found.damaged.push(place);
            } else {
                read += 1;
            }
            if sequence % BATCH == 0 {
                tell_alarms(store, found);
            }
        }
    }
    tell_alarms(store, found);
    found.is_well &= damaged == 0;
    let lost = number("messages").saturating_sub(read + damaged);
    println!("{account} > {stream}: {read} messages are well, {damaged} damaged");
    if lost > 0 {
        eprintln!("{account} > {stream}: {lost} messages are missing");
        found.is_well = false;
    }
    Ok(())
}

fn tell_alarms(store: &mut Offline, found: &mut Found) {
    for line in store.take_log() {
        if line.is_alarm {
            eprintln!("{}", line.text);
            found.is_well = false;
        }
    }
}
