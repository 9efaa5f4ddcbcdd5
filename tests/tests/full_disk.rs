//! A disk that is really full: a small file system in a namespace of its own, which the server fills.
//! Where the machine does not allow such a namespace the test says so and is skipped.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use millrace_tests::packages::skip;
use millrace_tests::schema::Schemas;
use millrace_tests::server::{fresh_folder, millrace_binary, wait_for};
use millrace_tests::{RawClient, ServerBuilder};
use serde_json::{Value, json};

/// Journal, reserve, and some room for segments.
const DISK_BYTES: u64 = 256 << 20;
const MESSAGE_BYTES: usize = 512 << 10;
/// More than the disk takes.
const MESSAGES_MAX: usize = 2 * (DISK_BYTES as usize / MESSAGE_BYTES);

const CONFIG: &str = "
jetstream { max_file_store: 20GB }
accounts {
  SYS { users: [ { user: sys, password: sys } ] }
  APP { jetstream: enabled, users: [ { user: app, password: app } ] }
}
system_account: SYS
no_auth_user: app
";

/// A file system of [`DISK_BYTES`] at `store` in a folder, which lives as long as a process that does
/// nothing: killing a server does not end it.
struct SmallDisk {
    holder: Child,
    folder: PathBuf,
    binary: PathBuf,
}

impl SmallDisk {
    /// `None` when the machine does not allow it.
    fn mount() -> Option<Self> {
        let folder = fresh_folder("small-disk");
        let store = folder.join("store");
        std::fs::create_dir_all(&store).unwrap();
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && echo ready && exec sleep 3600";
        let mut holder = Command::new("unshare")
            .args(["-U", "-r", "-m", "sh", "-c", script, "sh"])
            .arg(DISK_BYTES.to_string())
            .arg(&store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut ready = [0; 6];
        if holder.stdout.take()?.read_exact(&mut ready).is_err() {
            let _ = holder.wait();
            return None;
        }
        // Stands for the binary: enters the namespace, and is the server from then on.
        let binary = folder.join("server-on-small-disk");
        let enter = format!(
            "#!/bin/sh\nexec nsenter --preserve-credentials -U -m -t {} -- {} \"$@\"\n",
            holder.id(),
            millrace_binary().display()
        );
        std::fs::write(&binary, enter).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&binary, executable).unwrap();
        Some(Self {
            holder,
            folder,
            binary,
        })
    }

    fn builder(&self) -> ServerBuilder {
        ServerBuilder::binary(self.binary.clone())
            .jetstream()
            .config(CONFIG)
            .folder(&self.folder)
    }

    fn run(&self, script: &str) {
        let holder = self.holder.id().to_string();
        Command::new("nsenter")
            .args(["--preserve-credentials", "-U", "-m", "-t", &holder, "--"])
            .args(["sh", "-c", script, "sh"])
            .arg(self.folder.join("store"))
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }

    /// Somebody else takes all that is left.
    fn take_the_rest(&self) {
        self.run("cat /dev/zero > \"$1/junk\"");
    }

    fn give_back(&self) {
        self.run("rm \"$1/junk\"");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        if !std::thread::panicking() {
            remove(&self.folder);
        }
    }
}

fn remove(folder: &Path) {
    let _ = std::fs::remove_dir_all(folder);
}

fn ask(client: &mut RawClient, subject: &str, body: &Value) -> Value {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    client.request(subject, body.as_bytes()).json()
}

/// Publishes until the server refuses; the refusal and how many were stored.
fn fill(client: &mut RawClient) -> (Value, u64) {
    let payload = vec![b'x'; MESSAGE_BYTES];
    for stored in 0..MESSAGES_MAX {
        let answer = client.request("big.x", &payload).json();
        if answer.get("error").is_some() {
            return (answer, stored as u64);
        }
    }
    panic!("the disk takes more than it has room for");
}

fn messages(client: &mut RawClient, stream: &str) -> u64 {
    let info = ask(
        client,
        &format!("$JS.API.STREAM.INFO.{stream}"),
        &Value::Null,
    );
    let state = info.get("state").unwrap_or_else(|| panic!("{info}"));
    state["messages"].as_u64().unwrap()
}

/// The server takes a message again, sooner or later.
fn wait_for_room(client: &mut RawClient) {
    wait_for("a publish that is taken", || {
        let answer = client.request("small.again", b"x").json();
        answer.get("error").is_none().then_some(())
    });
}

fn make_streams(client: &mut RawClient) {
    for (name, subject) in [("BIG", "big.>"), ("SMALL", "small.>")] {
        let config = json!({"name": name, "subjects": [subject]});
        let made = ask(client, &format!("$JS.API.STREAM.CREATE.{name}"), &config);
        assert_eq!(made.get("error"), None, "{made}");
    }
    for number in 0..10 {
        let stored = client
            .request("small.x", format!("{number}").as_bytes())
            .json();
        assert_eq!(stored["seq"], number + 1);
    }
    let consumer = json!({"stream_name": "SMALL",
        "config": {"durable_name": "C", "ack_policy": "explicit", "ack_wait": 3_600_000_000_000_u64}});
    let made = ask(client, "$JS.API.CONSUMER.DURABLE.CREATE.SMALL.C", &consumer);
    assert_eq!(made.get("error"), None, "{made}");
}

/// Everything that may free space, or needs none, goes on: `+ACK` with an answer, deletes.
fn check_that_small_work_goes_on(client: &mut RawClient, sequence: u64) {
    let next = client.request("$JS.API.CONSUMER.MSG.NEXT.SMALL.C", b"1");
    let acknowledged = client.request(&next.reply, b"+ACK");
    assert_eq!(
        acknowledged.payload, b"",
        "an answer to the acknowledgement"
    );
    let delete = json!({"seq": sequence, "no_erase": true});
    let deleted = ask(client, "$JS.API.STREAM.MSG.DELETE.SMALL", &delete);
    assert_eq!(deleted["success"], true, "{deleted}");
}

// proves: JS-ST-05
#[test]
fn a_full_disk_refuses_publishes_and_recovers_by_itself_also_after_kill() {
    let Some(disk) = SmallDisk::mount() else {
        skip("full_disk", "no user and mount namespace here");
        return;
    };
    let mut server = disk.builder().start();
    let mut system = server.connect();
    system.read_line();
    system.send(
        b"CONNECT {\"user\":\"sys\",\"pass\":\"sys\",\"headers\":true,\"no_responders\":true}\r\n",
    );
    system.send(b"SUB $JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE 1\r\n");
    system.flush();
    let mut client = RawClient::ready(&server.address);
    make_streams(&mut client);

    let (refusal, stored) = fill(&mut client);
    let insufficient =
        json!({"code": 503, "err_code": 10023, "description": "insufficient resources"});
    assert_eq!(refusal["error"], insufficient);
    let advisory = system.read_message().json();
    assert_eq!(
        advisory["type"],
        "io.nats.jetstream.advisory.v1.server_out_of_space"
    );
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/jetstream");
    let problems =
        Schemas::new(&schemas).problems("advisory/v1/server_out_of_space.json", &advisory);
    assert_eq!(problems, Some(Vec::new()), "{advisory}");
    let config = json!({"name": "MORE", "subjects": ["more"]});
    let refused = ask(&mut client, "$JS.API.STREAM.CREATE.MORE", &config);
    assert_eq!(refused["error"]["err_code"], 10023, "{refused}");
    check_that_small_work_goes_on(&mut client, 1);

    // Killed, with nothing left on the disk at all, and again what little the start made room for.
    let mut stored_in_all = stored;
    for sequence in 2..5 {
        disk.take_the_rest();
        server = server.restart(disk.builder());
        client = RawClient::ready(&server.address);
        wait_for("JetStream", || {
            let info = ask(&mut client, "$JS.API.INFO", &Value::Null);
            info.get("memory").map(|_| ())
        });
        assert_eq!(
            messages(&mut client, "BIG"),
            stored_in_all,
            "all that was acknowledged"
        );
        check_that_small_work_goes_on(&mut client, sequence);
        let (refusal, stored) = fill(&mut client);
        assert_eq!(refusal["error"]["err_code"], 10023);
        stored_in_all += stored;
    }

    // A purge makes room by itself, though somebody else still holds the rest.
    let purged = ask(&mut client, "$JS.API.STREAM.PURGE.BIG", &Value::Null);
    assert_eq!(purged["purged"], stored_in_all, "{purged}");
    disk.give_back();
    wait_for_room(&mut client);
    let (_, stored) = fill(&mut client);
    assert!(stored > 0, "room for more");
    server = server.restart(disk.builder());
    client = RawClient::ready(&server.address);
    wait_for("the stream", || {
        let info = ask(&mut client, "$JS.API.STREAM.INFO.BIG", &Value::Null);
        (info["state"]["messages"] == stored).then_some(())
    });
}
