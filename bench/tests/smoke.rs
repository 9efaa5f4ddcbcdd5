//! Every scenario once, tiny, against the `millrace` of this build: the figures mean nothing here,
//! but a scenario that no longer works is found.

#![allow(clippy::unwrap_used)] // a failed step is a failed test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use millrace_tests::server::{millrace_binary, target_folder};
use serde_json::Value;

/// How long the server may take to get ready.
const PATIENCE: Duration = Duration::from_secs(30);

fn folder(name: &str) -> PathBuf {
    let folder = target_folder()
        .join("test-data")
        .join(format!("bench-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn bench(data: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--scale", "0.001", "--rounds", "1", "--json", "--millrace"])
        .arg(millrace_binary())
        .arg("--data")
        .arg(data)
        .args(words)
        .output()
        .unwrap()
}

/// The rows of a run that ended well, targets reached (0) or not (2).
fn rows(output: &Output) -> Vec<Value> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 2)), "{errors}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    rows.as_array().unwrap().clone()
}

fn names(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn every_scenario_runs_and_leaves_nothing_behind() {
    let data = folder("all");
    let listed = names(&bench(&data, &["--list"]));
    assert!(listed.len() > 60, "{listed:?}");
    // An empty name is part of every one, also of those that are run only when they are named.
    let rows = rows(&bench(&data, &["--pin", "free", "--scenario", ""]));
    let measured: Vec<&str> = rows
        .iter()
        .map(|row| row["scenario"].as_str().unwrap())
        .collect();
    assert_eq!(measured, listed);
    for row in &rows {
        let run = &row["ours"][0];
        assert!(run["messages"].as_u64().unwrap() > 0, "{row}");
        assert!(run["peak_memory_bytes"].as_f64().unwrap() > 0.0, "{row}");
        let waits = row["scenario"]
            .as_str()
            .unwrap()
            .contains(" sync publish, ");
        assert_eq!(
            waits,
            waits && run["latency_us"]["p99.9"].is_number(),
            "{row}"
        );
    }
    // A failed run keeps a log; this one did not fail.
    fs::remove_dir(&data).expect("the data folder is empty");
}

#[test]
fn two_servers_are_compared_and_judged() {
    let data = folder("two");
    let reference = millrace_binary();
    let reference = reference.to_str().unwrap();
    let words = ["--reference", reference, "--scenario", "core 1:1, 16 KiB"];
    let rows = rows(&bench(&data, &words));
    assert!(!rows.is_empty());
    for row in &rows {
        for side in ["ours", "reference", "relay"] {
            assert!(row[side][0]["messages_per_second"].as_f64().unwrap() > 0.0);
        }
        let relay = &row["targets"][1];
        assert_ne!(relay["verdict"], "unknown", "{row}");
    }
    fs::remove_dir(&data).expect("the data folder is empty");
}

#[test]
fn a_server_that_cannot_start_is_named_with_its_scenario() {
    let data = folder("none");
    let output = bench(
        &data,
        &["--scenario", "memory idle", "--millrace", "/bin/false"],
    );
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("memory idle on /bin/false: the server ended"),
        "{errors}"
    );
    fs::remove_dir(&data).expect("the data folder is empty");
}

/// Ended by its process id, whatever happens in the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_server_is_measured_by_its_url_and_left_as_it_was() {
    let data = folder("url");
    let server = Command::new(millrace_binary())
        .args(["-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-js", "-sd"])
        .arg(data.join("store"))
        .arg("--ports_file_dir")
        .arg(&data)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Running(server);
    let ports = ports(&data, server.0.id());
    let url = ports["nats"][0].as_str().unwrap();
    let words = [
        "--url",
        url,
        "--scenario",
        "async publish, 128 B",
        "--scenario",
        "core 1:1",
    ];
    let rows = rows(&bench(&data.join("unused"), &words));
    assert!(rows.len() > 5);
    for row in &rows {
        assert!(row["ours"][0]["messages"].as_u64().unwrap() > 0, "{row}");
        assert!(row["ours"][0]["server_cpu_ns_per_message"].is_null());
    }
    let monitoring = ports["monitoring"][0].as_str().unwrap();
    assert!(
        jsz(monitoring).contains("\"streams\": 0"),
        "{}",
        jsz(monitoring)
    );
    drop(server);
    fs::remove_dir_all(&data).unwrap();
}

fn ports(folder: &Path, pid: u32) -> Value {
    let deadline = Instant::now() + PATIENCE;
    let path = folder.join(format!("millrace_{pid}.ports"));
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if let Ok(value) = serde_json::from_str(&text) {
            return value;
        }
        assert!(Instant::now() < deadline, "no ports file");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn jsz(monitoring: &str) -> String {
    use std::io::{Read, Write};
    let address = monitoring.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream
        .write_all(b"GET /jsz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
