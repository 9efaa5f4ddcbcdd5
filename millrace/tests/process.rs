//! The host as a process: files, signals, log lines, monitoring, and bytes through real sockets.

mod common;

use common::{Client, Folder, Server, file_ending, get};
use std::time::{Duration, Instant};

#[test]
fn a_server_writes_its_files_and_leaves_with_code_0() {
    for name in ["INT", "TERM"] {
        let mut server = Server::start(&["-m", "-1"]);
        let pid = std::fs::read_to_string(server.path("pid")).expect("a pid file");
        assert_eq!(pid, server.process.id().to_string());
        let ports = file_ending(&server.folder.0, ".ports").expect("a ports file");
        assert!(ports.ends_with(format!("nats-server_{pid}.ports")));
        let text = std::fs::read_to_string(&ports).expect("text");
        assert!(text.starts_with(&format!(r#"{{"nats":["nats://127.0.0.1:{}"]"#, server.port)));
        assert!(
            text.contains(r#""monitoring":["http://127.0.0.1:"#),
            "{text}"
        );
        let mut client = server.connect();
        client.expect("\r\n");
        server.signal(name);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(client.expect_end(), "");
        assert!(server.path("pid").exists() && !ports.exists());
        let log = server.log();
        let trapped = if name == "INT" {
            "interrupt"
        } else {
            "terminated"
        };
        for line in [
            "[INF] Starting nats-server",
            "[INF]   Version:  2.15.1",
            &format!("[INF] Trapped \"{trapped}\" signal"),
            "[INF] Initiating Shutdown...",
            "[INF] Server Exiting..",
        ] {
            assert!(
                log.contains(&format!("{line}\n")),
                "{line} is not in:\n{log}"
            );
        }
    }
}

// proves: PRO-01
#[test]
fn the_first_line_is_info_with_a_blank_before_its_end() {
    let server = Server::start(&[]);
    let info = server.connect().expect("\r\n");
    assert!(
        info.starts_with("INFO {\"server_id\":\"N") && info.ends_with("} \r\n"),
        "{info}"
    );
    assert!(info.contains("\"version\":\"2.15.1\""), "{info}");
    assert!(info.contains("\"implementation\":\"millrace "), "{info}");
}

// proves: PRO-09
#[test]
fn payloads_of_every_size_pass_whole_and_in_order() {
    let server = Server::start(&[]);
    let (mut subscriber, mut publisher) = (server.connect(), server.connect());
    subscriber.log_in("");
    publisher.log_in("");
    subscriber.send("SUB big.* 7\r\nPING\r\n");
    subscriber.expect("PONG\r\n");
    let sizes = [
        0, 1, 511, 512, 65_535, 65_536, 70_000, 1_000_000, 1_048_576, 3,
    ];
    let writer = std::thread::spawn(move || {
        for (number, size) in sizes.into_iter().enumerate() {
            let mut bytes = format!("PUB big.{number} {size}\r\n").into_bytes();
            bytes.extend((0..size).map(|at| b'a' + ((at + number) % 26) as u8));
            bytes.extend_from_slice(b"\r\n");
            // Pieces that fit nothing, so that every border is crossed somewhere.
            for piece in bytes.chunks(77_777) {
                publisher.send(piece);
            }
        }
        publisher
    });
    for (number, size) in sizes.into_iter().enumerate() {
        subscriber.expect(&format!("MSG big.{number} 7 {size}\r\n"));
        let mut payload: String = (0..size)
            .map(|at| char::from(b'a' + ((at + number) % 26) as u8))
            .collect();
        payload.push_str("\r\n");
        assert_eq!(subscriber.expect(&payload).len(), size + 2);
    }
    writer.join().expect("written");
}

// proves: PRO-21, PRO-25
#[test]
fn the_last_error_arrives_although_the_client_is_still_sending() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.log_in("");
        client.send("PUB a 2000000\r\n");
        for _ in 0..30 {
            // The server may be gone already.
            let _ = std::io::Write::write_all(&mut client.socket, &[b'x'; 65_536]);
        }
        assert!(
            client
                .expect_end()
                .contains("-ERR 'Maximum Payload Violation'\r\n")
        );
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_the_others_go_on() {
    let folder = Folder::new();
    let config = folder.write("config", "max_pending: 2MB\nwrite_deadline: \"1s\"\n");
    let mut server = Server::start_in(folder, &["-c", &config]);
    let (mut slow, mut quick, mut publisher) =
        (server.connect(), server.connect(), server.connect());
    for client in [&mut slow, &mut quick] {
        client.log_in("");
        client.send("SUB flood 1\r\nPING\r\n");
        client.expect("PONG\r\n");
    }
    publisher.log_in("");
    let reader = std::thread::spawn(move || {
        let wanted = 200 * "MSG flood 1 100000\r\n\r\n".len() + 200 * 100_000;
        let mut buffer = vec![0; 1 << 20];
        let mut taken = quick.received.len();
        while taken < wanted {
            let count = std::io::Read::read(&mut quick.socket, &mut buffer).expect("not cut");
            assert!(count > 0, "cut after {taken} bytes");
            taken += count;
        }
    });
    let payload = vec![b'x'; 100_000];
    for _ in 0..200 {
        publisher.send("PUB flood 100000\r\n");
        publisher.send(&payload);
        publisher.send("\r\n");
    }
    server.await_log("Slow Consumer Detected");
    reader.join().expect("all messages reached the quick one");
}

#[test]
fn monitoring_answers_over_http() {
    let mut server = Server::start_with_store(&["-m", "-1"]);
    let line = server.await_log("Starting http monitor on ");
    let port = line
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    assert_eq!(
        get(port, "/healthz"),
        ("HTTP/1.1 200 OK".into(), r#"{"status":"ok"}"#.into())
    );
    let (status, body) = get(port, "/varz");
    assert!(
        status.ends_with("200 OK") && body.contains("\"version\": \"2.15.1\""),
        "{body}"
    );
    assert!(get(port, "/jsz").1.contains("\"store_dir\""));
    assert!(get(port, "/nothing").0.contains("404"));
}

#[test]
fn a_store_folder_serves_one_server_at_a_time() {
    let holder = Server::start_with_store(&[]);
    let store = holder.path("store").display().to_string();
    let output = common::command(&holder.folder)
        .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &store])
        .output()
        .expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("[FTL]") && text.contains("in use by another server"),
        "{text}"
    );
}

#[test]
fn a_store_of_a_newer_format_refuses_the_start() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.0.join("store/millrace")).expect("made");
    let format = folder.0.join("store/millrace/format");
    std::fs::write(&format, "millrace store format 999\nmore than we know\n").expect("written");
    let output = common::command(&folder)
        .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
        .arg(folder.0.join("store"))
        .output()
        .expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("[FTL]") && text.contains("has format 999"),
        "{text}"
    );
}

#[test]
fn streams_of_the_reference_are_neither_read_nor_passed_over() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.0.join("jetstream/$G/streams/ORDERS")).expect("made");
    let output = common::command(&folder)
        .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
        .arg(&folder.0)
        .output()
        .expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("holds streams of nats-server"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_taken_port_is_a_clear_failure() {
    let server = Server::start(&[]);
    let output = common::command(&server.folder)
        .args(["-a", "127.0.0.1", "-p", &server.port.to_string()])
        .output()
        .expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("[FTL] Error listening on port: 127.0.0.1:"),
        "{text}"
    );
}

#[test]
fn lame_duck_mode_tells_clients_closes_them_and_ends_with_code_0() {
    let folder = Folder::new();
    let config = folder.write(
        "config",
        "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n",
    );
    let mut server = Server::start_in(folder, &["-c", &config]);
    let mut client = server.connect();
    client.log_in(",\"protocol\":1");
    client.expect("INFO ");
    server.signal("USR2");
    client.expect("\"ldm\":true");
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port)).is_err());
    server.signal("TERM");
    let begun = Instant::now();
    client.expect_end();
    assert_eq!(server.wait().code(), Some(0));
    assert!(
        begun.elapsed() > Duration::from_millis(500),
        "TERM must not cut it short"
    );
    assert!(server.log().contains("Closing existing clients"));
}

#[test]
fn the_log_file_is_opened_anew_and_the_configuration_read_again() {
    let folder = Folder::new();
    let config = folder.write("config", "debug: false\n");
    let mut server = Server::start_in(folder, &["-c", &config]);
    std::fs::rename(server.path("log"), server.path("old")).expect("moved");
    server.signal("USR1");
    server.await_log("File log re-opened");
    std::fs::write(&config, "nonsense: {{\n").expect("written");
    server.signal("HUP");
    server.await_log("[ERR] Failed to reload server configuration:");
    std::fs::write(&config, "debug: true\n").expect("written");
    server.signal("HUP");
    server.await_log("[INF] Reloaded server configuration");
    server.connect().expect("\r\n");
    server.await_log("[DBG]");
}

#[test]
fn a_thousand_connections_come_and_go() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..1000).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.log_in("");
        client.send("SUB all 1\r\nPING\r\n");
    }
    for client in &mut clients {
        client.expect("PONG\r\n");
    }
    clients[0].send("PUB all 2\r\nhi\r\n");
    for client in &mut clients {
        client.expect("MSG all 1 2\r\nhi\r\n");
    }
    drop(clients);
    server.connect().log_in("");
}

#[test]
fn hashed_passwords_are_compared_while_other_connections_go_on() {
    let folder = Folder::new();
    let config = folder.write(
        "config",
        "authorization { timeout: 10, users: [\n\
         { user: slow, password: \"$2a$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u\" }\n\
         { user: quick, password: plain }\n] }\n",
    );
    let server = Server::start_in(folder, &["-c", &config]);
    let mut quick = server.connect();
    quick.log_in(",\"user\":\"quick\",\"pass\":\"plain\"");
    let mut slow: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut slow {
        // What follows the login must wait for it.
        client.send("CONNECT {\"user\":\"slow\",\"pass\":\"secret\",\"verbose\":false}\r\n");
        client.send("SUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n");
    }
    let begun = Instant::now();
    quick.send("PING\r\n");
    quick.expect("PONG\r\n");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "held up by the hashing"
    );
    for client in &mut slow {
        client.expect("MSG a 1 2\r\nhi\r\n");
        client.expect("PONG\r\n");
    }
    let mut wrong = server.connect();
    wrong.send("CONNECT {\"user\":\"slow\",\"pass\":\"Secret\"}\r\nPING\r\n");
    let answer = wrong.expect_end();
    assert!(
        answer.contains("-ERR 'Authorization Violation'"),
        "{answer}"
    );
    assert!(!answer.contains("PONG"), "{answer}");
}

/// Who listens for what a server says of itself.
fn watcher(server: &Server) -> Client {
    let mut client = server.connect();
    client.log_in(",\"protocol\":1,\"user\":\"s\",\"pass\":\"s\"");
    client.send("SUB $SYS.SERVER.*.STATSZ 1\r\nSUB $SYS.SERVER.*.LAMEDUCK 2\r\n");
    client.send("SUB $SYS.SERVER.*.SHUTDOWN 3\r\nPING\r\n");
    client.expect("PONG\r\n");
    client
}

// proves: SYS-14, SYS-15, PRO-04
#[test]
fn the_system_account_hears_figures_and_the_end_of_a_server() {
    let folder = Folder::new();
    let text = "accounts { SYS { users: [ { user: s, password: s } ] } }\n\
                system_account: SYS\nserver_name: here\nlame_duck_duration: \"30s\"\n\
                lame_duck_grace_period: \"100ms\"\n";
    let config = folder.write("config", text);
    let mut server = Server::start_in(folder, &["-c", &config]);
    let mut client = watcher(&server);
    let heard = client.expect("\"statsz\":{");
    assert!(
        heard.contains(".STATSZ 1 ") && heard.contains("\"name\":\"here\""),
        "{heard}"
    );
    server.signal("USR2");
    let info = client.expect("\"ldm\":true");
    assert!(info.contains("INFO {"), "{info}");
    let heard = client.expect(".LAMEDUCK 2 ");
    assert!(!heard.contains("SHUTDOWN"), "{heard}");
    client.expect("{\"name\":\"here\"");
    let heard = client.expect_end();
    assert!(!heard.contains("LAMEDUCK"), "once: {heard}");
    assert!(server.wait().success());

    let folder = Folder::new();
    let config = folder.write("config", text);
    let mut server = Server::start_in(folder, &["-c", &config]);
    let mut client = watcher(&server);
    server.signal("TERM");
    let heard = client.expect_end();
    assert!(heard.contains(".SHUTDOWN 3 "), "{heard}");
    assert!(heard.contains("{\"name\":\"here\",\"host\":"), "{heard}");
    assert!(server.wait().success());
}
