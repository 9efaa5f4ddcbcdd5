//! What stands in the log: lines of connections and of the protocol as the reference writes them,
//! files that are kept and cut, and the flags that change what is shown.

#![allow(clippy::unwrap_used)]

use std::fs;

use millrace_tests::Server;
use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::server::{ServerBuilder, wait_for};

const USERS: &str = "authorization { users: [ { user: a, password: secretpw },
    { user: t, password: x, permissions: { publish: ok } } ] }\n";

/// Lines of clients without what differs from run to run.
fn client_lines(log: &str) -> Vec<String> {
    let mut ids: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for line in log.lines() {
        let Some((head, rest)) = line.split_once(" - cid:") else {
            continue;
        };
        let (id, rest) = rest.split_once(" - ").unwrap();
        if !ids.contains(&id) {
            ids.push(id);
        }
        let place = ids.iter().position(|known| *known == id).unwrap();
        let level = head.split(['[', ']']).nth(3).unwrap();
        lines.push(format!("[{level}] client {place} - {rest}"));
    }
    lines
}

/// Plays one conversation after the other and returns the whole log.
fn play(server: &Server, conversations: &[(&str, &str)]) -> String {
    for (number, (words, end)) in conversations.iter().enumerate() {
        let mut client = server.connect();
        client.send(words.as_bytes());
        client.read_until(end.as_bytes());
        drop(client);
        wait_for("the end of the connection in the log", || {
            let log = server.log();
            let ended = log.matches("Client connection closed").count() > number;
            ended.then_some(())
        });
    }
    server.log()
}

// proves: TRC-07 TRC-08 TRC-09 TRC-10
#[test]
fn lines_of_clients_are_those_of_the_reference() {
    let Some(reference) = reference_binary() else {
        skip(
            "lines_of_clients_are_those_of_the_reference",
            "no reference",
        );
        return;
    };
    let conversations = [
        (
            "CONNECT {\"user\":\"a\",\"pass\":\"secretpw\",\"name\":\"nm\",\"lang\":\"x\",\
             \"version\":\"1.2\",\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n\
             PING\r\nSUB foo q 1\r\nSUB bar 2\r\nUNSUB 2 3\r\nPUB bar rep 5\r\nhello\r\n\
             HPUB bar 23 25\r\nNATS/1.0\r\nA: header\r\n\r\nxy\r\nUNSUB 2\r\nPONG\r\n\
             PUB nobody rr 0\r\n\r\nSUB e 9\r\nPUB e 0\r\n\r\nPING\r\n",
            "MSG e 9 0\r\n\r\nPONG\r\n",
        ),
        (
            "CONNECT {\"user\":\"a\",\"pass\":\"wrong\",\"auth_token\":\"tok\",\"sig\":\"s\"}\r\n",
            "Violation'\r\n",
        ),
        (
            "CONNECT {\"user\":\"t\",\"pass\":\"x\"}\r\nPUB no 2\r\nhi\r\n",
            "to \"no\"'\r\n",
        ),
        ("PUB a 0\r\n\r\n", "Violation'\r\n"),
    ];
    let lines = |builder: ServerBuilder| {
        let server = builder.config(USERS).argument("-DV").start();
        let log = play(&server, &conversations);
        assert!(!log.contains("secretpw"), "{log}");
        client_lines(&log)
    };
    let ours = lines(ServerBuilder::millrace());
    let theirs = lines(ServerBuilder::binary(reference));
    assert!(theirs.len() > 25, "{theirs:#?}");
    assert_eq!(ours, theirs);
}

// proves: TRC-07 TRC-14
#[test]
fn the_head_of_a_line_has_process_time_and_level() {
    let head = |argument: &str| {
        let server = ServerBuilder::millrace().argument(argument).start();
        let log = server.log();
        let line = log.lines().next().unwrap().to_owned();
        let process = format!("[{}] ", server.process_id());
        line.strip_prefix(&process).unwrap().to_owned()
    };
    assert_eq!(head("-T=false"), "[INF] Starting nats-server");
    let stamped = head("--logtime_utc=true");
    let shape: String = stamped
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(
        shape,
        "0000/00/00 00:00:00.000000 [INF] Starting nats-server"
    );
}

// proves: TRC-13
#[test]
fn traces_show_headers_and_cut_payloads_as_configured() {
    let config = "trace: true\nmax_traced_msg_len: 4\n";
    let server = ServerBuilder::millrace().config(config).start();
    let words = "CONNECT {\"headers\":true,\"verbose\":false}\r\nPUB a 10\r\n0123456789\r\n\
                 HPUB b 18 22\r\nNATS/1.0\r\nA: b\r\n\r\nbody\r\nPING\r\n";
    let mut client = server.connect();
    client.send(words.as_bytes());
    client.read_until(b"PONG\r\n");
    let log = wait_for("the trace", || {
        let log = server.log();
        log.contains("[PONG]").then_some(log)
    });
    assert!(log.contains("MSG_PAYLOAD: [\"0123\"...]"), "{log}");
    assert!(!log.contains("A: b"), "{log}");
    let config = "trace: true\ntrace_headers: true\n";
    let server = ServerBuilder::millrace().config(config).start();
    let mut client = server.connect();
    client.send(words.as_bytes());
    client.read_until(b"PONG\r\n");
    wait_for("the header in the trace", || {
        let log = server.log();
        (log.contains("A: b") && !log.contains("0123456789")).then_some(())
    });
}

// proves: TRC-11
#[test]
fn a_log_file_is_cut_at_its_limit_and_the_oldest_go() {
    let folder = millrace_tests::server::fresh_folder("logs");
    let path = folder.join("server.log");
    let config = format!(
        "debug: true\nlog_file: {:?}\nlog_size_limit: 1000\nlog_max_num: 3\n",
        path.display().to_string()
    );
    let server = ServerBuilder::millrace().config(&config).start();
    let files = || {
        let names = fs::read_dir(&folder).unwrap();
        names.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    for _ in 0..200 {
        server.connect().sync();
    }
    let kept = wait_for("files to be cut and dropped", || {
        let files = files();
        (files.len() == 3).then_some(files)
    });
    drop(server);
    for file in kept {
        let length = fs::metadata(&file).unwrap().len();
        assert!(length < 2000, "{length} bytes in {file:?}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
