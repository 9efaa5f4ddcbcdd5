//! The command line: output, exit codes, files and signals, under both names.

use std::fs;

use crate::server::{Name, Server, TempFolder, run};

// proves: CLI-19
#[test]
fn version_is_the_references_under_its_name_and_ours_otherwise() {
    let folder = TempFolder::new();
    for argument in ["-v", "--version", "version", "-p 1 -v"] {
        let output = run(&folder, Name::NatsServer, argument);
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (0, "nats-server: v2.15.1\n")
        );
    }
    let own = run(&folder, Name::Millrace, "-v");
    let expected = format!(
        "millrace: v{} (compatible with nats-server v2.15.1)\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!((own.code, own.stdout), (0, expected));
}

// proves: CLI-20
#[test]
fn exit_codes_and_texts_are_those_of_the_reference() {
    let folder = TempFolder::new();
    let usage = [
        ("-foo", "flag provided but not defined: -foo\n"),
        ("-p", "flag needs an argument: -p\n"),
        (
            "--port x",
            "invalid value \"x\" for flag -port: parse error\n",
        ),
        ("-D=x", "invalid boolean value \"x\" for -D: parse error\n"),
    ];
    for (arguments, message) in usage {
        let output = run(&folder, Name::NatsServer, arguments);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (0, message),
            "{arguments}"
        );
        assert!(
            output
                .stdout
                .starts_with("\nUsage: nats-server [options]\n")
        );
    }
    let failures = [
        ("foo", "nats-server: unrecognized command: \"foo\"\n"),
        ("-p 1 foo", "nats-server: unrecognized command: \"foo\"\n"),
        (
            "-t",
            "nats-server: must specify [-c, --config] option to check configuration file syntax\n",
        ),
        (
            "-c gone.conf",
            "nats-server: open gone.conf: no such file or directory\n",
        ),
        (
            "-t -c gone.conf",
            "nats-server: open gone.conf: no such file or directory\n",
        ),
        (
            "-tls",
            "nats-server: TLS Server certificate must be present and valid\n",
        ),
        ("-sl quit=x", "nats-server: invalid pid: x\n"),
        ("-sl a=b=c", "nats-server: invalid signal parameters: [c]\n"),
    ];
    for (arguments, message) in failures {
        let output = run(&folder, Name::NatsServer, arguments);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (1, message),
            "{arguments}"
        );
    }
    for arguments in ["help", "-h", "--help"] {
        let output = run(&folder, Name::NatsServer, arguments);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (0, ""),
            "{arguments}"
        );
        assert!(output.stdout.contains("--store_dir"));
    }
}

// proves: CLI-09, CFG-15
#[test]
fn a_config_test_tells_the_digest_or_every_remark() {
    let folder = TempFolder::new();
    let test = |text: &str| {
        folder.write("test.conf", text);
        let output = run(&folder, Name::NatsServer, "-t -c test.conf");
        (output.code, output.stderr)
    };
    let digest = "797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e";
    let valid = format!("nats-server: configuration file test.conf is valid (sha256:{digest})\n");
    assert_eq!(test("port: 4222"), (0, valid));
    let remarks = "nats-server: test.conf:2:1: invalid use of field \"ping_interval\": \
                   ping_interval should be converted to a duration\n\
                   test.conf:1:0: unknown field \"prot\", did you mean \"port\"?\n\
                   test.conf:3:1: max_payload value is too big\n";
    let text = "prot 1\nping_interval 2\nmax_payload 9gb";
    assert_eq!(test(text), (1, remarks.to_owned()));
    let text = "nats-server: Parse error on line 1: 'Unexpected EOF.'\n";
    assert_eq!(test("port '4222"), (1, text.to_owned()));
}

// proves: CLI-12, CLI-17, CLI-18, CLI-22
#[test]
fn a_server_writes_its_files_and_stops_cleanly_on_interrupt_and_term() {
    for (signal, name) in [("quit", "interrupt"), ("term", "terminated")] {
        let folder = TempFolder::new();
        let mut server = Server::start(
            &folder,
            Name::NatsServer,
            "-a 127.0.0.1 -p -1 -m -1 -P server.pid --ports_file_dir .",
        );
        server.wait_for("Server is ready");
        let pid = server.pid();
        let pid_file = fs::read_to_string(folder.path("server.pid")).expect("pid file");
        assert_eq!(pid_file, pid.to_string());
        let ports_path = folder.path(&format!("nats-server_{pid}.ports"));
        let ports = fs::read_to_string(&ports_path).expect("ports file");
        let port = server.client_port();
        assert!(
            ports.contains(&format!("\"nats\":[\"nats://127.0.0.1:{port}\"]")),
            "{ports}"
        );
        assert!(
            ports.contains("\"monitoring\":[\"http://127.0.0.1:"),
            "{ports}"
        );
        let sent = run(&folder, Name::NatsServer, &format!("-sl {signal}={pid}"));
        assert_eq!((sent.code, sent.stderr.as_str()), (0, ""));
        server.wait_for(&format!("Trapped \"{name}\" signal"));
        server.wait_for("Server Exiting..");
        assert_eq!(server.exit_code(), Some(0));
        assert!(!ports_path.exists());
        assert!(folder.path("server.pid").exists());
    }
}

// proves: CLI-10
#[test]
fn signals_find_their_server_by_pid_file() {
    let folder = TempFolder::new();
    let mut server = Server::start(
        &folder,
        Name::NatsServer,
        "-a 127.0.0.1 -p -1 --pid server.pid",
    );
    server.wait_for("Server is ready");
    let sent = run(&folder, Name::NatsServer, "--signal stop=server.pid");
    assert_eq!((sent.code, sent.stderr.as_str()), (0, ""));
    // Killed, so without an exit code.
    assert_eq!(server.exit_code(), None);
}

/// Puts a stand-in for `pgrep` into the folder that finds these processes, so that no test can
/// reach a server that is not its own.
fn fake_pgrep(folder: &TempFolder, pids: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    folder.write("pgrep", &format!("#!/bin/sh\necho '{pids}'\n"));
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path("pgrep"), executable).expect("permissions");
}

// proves: CLI-10, CLI-11
#[test]
fn signals_find_their_servers_among_the_running_ones() {
    let folder = TempFolder::new();
    let start = || {
        let mut server = Server::start(&folder, Name::NatsServer, "-a 127.0.0.1 -p -1");
        server.wait_for("Server is ready");
        server
    };
    let send = |command: &str| {
        let output = run(&folder, Name::NatsServer, &format!("-sl {command}"));
        (output.code, output.stderr)
    };
    fake_pgrep(&folder, "");
    let none = "nats-server: no nats-server processes running\n";
    assert_eq!(send("quit"), (1, none.to_owned()));
    let (mut first, mut second) = (start(), start());
    let (one, two) = (first.pid(), second.pid());
    fake_pgrep(&folder, &format!("{one}\n{two}"));
    let several = format!("nats-server: multiple nats-server processes running:\n{one}\n{two}\n");
    assert_eq!(send("quit"), (1, several));
    assert_eq!(send(&format!("quit={one}*")), (0, String::new()));
    assert_eq!(first.exit_code(), Some(0));
    fake_pgrep(&folder, &two.to_string());
    assert_eq!(
        send("foo"),
        (1, "nats-server: unknown signal \"foo\"\n".to_owned())
    );
    assert_eq!(send("quit"), (0, String::new()));
    assert_eq!(second.exit_code(), Some(0));
}

// proves: CLI-04
#[test]
fn flags_turn_jetstream_on_and_name_its_folder() {
    let folder = TempFolder::new();
    let arguments = "-a 127.0.0.1 -p -1 -js --store_dir=own";
    let mut server = Server::start(&folder, Name::NatsServer, arguments);
    let line = server.wait_for("Store Directory:");
    assert!(line.contains("own/"), "{line}");
    server.wait_for("Server is ready");
}

// proves: CLI-05, AUT-17
#[test]
fn flags_say_who_may_connect() {
    for (flags, good, bad) in [
        (
            "--user u -pass p",
            r#"{"user":"u","pass":"p"}"#,
            r#"{"user":"u","pass":"q"}"#,
        ),
        ("-auth t", r#"{"auth_token":"t"}"#, r#"{"auth_token":"u"}"#),
    ] {
        let folder = TempFolder::new();
        let arguments = format!("-a 127.0.0.1 -p -1 {flags}");
        let mut server = Server::start(&folder, Name::NatsServer, &arguments);
        server.wait_for("[WRN] Plaintext passwords detected, use nkeys or bcrypt");
        server.wait_for("Server is ready");
        assert_eq!(server.connect(good).ping(), ["+OK"]);
        assert_eq!(
            server.connect(bad).ping(),
            ["-ERR 'Authorization Violation'"]
        );
    }
}

// proves: CLI-03
#[test]
fn flags_say_what_is_logged() {
    let folder = TempFolder::new();
    let mut server = Server::start(&folder, Name::NatsServer, "-a 127.0.0.1 -p -1 -DV -T=false");
    let line = server.wait_for("Starting nats-server");
    assert_eq!(
        line,
        format!("[{}] [INF] Starting nats-server", server.pid())
    );
    server.wait_for("Server is ready");
    let _client = server
        .connect("{\"verbose\":false}")
        .exchange("SUB a.b 1\r\n");
    server.wait_for("[DBG]");
    server.wait_for("<<- [SUB a.b 1]");
}

// proves: CLI-13
#[test]
fn hangup_reads_the_file_again_all_or_nothing() {
    let folder = TempFolder::new();
    let start = "listen: 127.0.0.1:-1\n";
    folder.write("server.conf", start);
    let mut server = Server::start(&folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    let pid = server.pid();
    let reload = || run(&folder, Name::NatsServer, &format!("-sl reload={pid}"));
    folder.write("server.conf", &format!("{start}max_subs 5\ndebug true"));
    assert_eq!(reload().code, 0);
    server.wait_for("Trapped \"hangup\" signal");
    server.wait_for(
        "[ERR] Failed to reload server configuration: config reload not supported for MaxSubs: \
         old=0, new=5",
    );
    folder.write("server.conf", &format!("{start}debug true"));
    assert_eq!(reload().code, 0);
    server.wait_for("[INF] Reloaded: debug = true");
    server.wait_for("[INF] Reloaded: authorization users");
    server.wait_for("[INF] Reloaded: accounts");
    server.wait_for("[INF] Reloaded server configuration (sha256:");
}

// proves: CLI-14
#[test]
fn a_log_file_is_opened_anew_on_request() {
    let folder = TempFolder::new();
    let mut server = Server::start(
        &folder,
        Name::NatsServer,
        "-a 127.0.0.1 -p -1 -l log -P server.pid",
    );
    server.wait_in_file(&folder.path("log"), "Server is ready");
    fs::rename(folder.path("log"), folder.path("old")).expect("rename");
    assert_eq!(
        run(&folder, Name::NatsServer, "-sl reopen=server.pid").code,
        0
    );
    server.wait_in_file(&folder.path("log"), "File log re-opened");
}

// proves: CLI-15
#[test]
fn lame_duck_mode_ends_the_server() {
    let folder = TempFolder::new();
    let text = "listen: 127.0.0.1:-1\nlame_duck_grace_period: '1ms'\nlame_duck_duration: '30s'";
    folder.write("server.conf", text);
    let mut server = Server::start(&folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    let pid = server.pid();
    assert_eq!(
        run(&folder, Name::NatsServer, &format!("-sl ldm={pid}")).code,
        0
    );
    server.wait_for("Trapped \"user defined signal 2\" signal");
    server.wait_for("Entering lame duck mode, stop accepting new clients");
    server.wait_for("Server Exiting..");
    assert_eq!(server.exit_code(), Some(0));
}

// proves: CLI-16
#[test]
fn term_does_not_cut_lame_duck_mode_short() {
    let folder = TempFolder::new();
    let text = "listen: 127.0.0.1:-1\nlame_duck_grace_period: '20s'\nlame_duck_duration: '30s'";
    folder.write("server.conf", text);
    let mut server = Server::start(&folder, Name::NatsServer, "-c server.conf");
    server.wait_for("Server is ready");
    let mut client = server.connect("{\"verbose\":false}");
    client.ping();
    let pid = server.pid();
    assert_eq!(
        run(&folder, Name::NatsServer, &format!("-sl ldm={pid}")).code,
        0
    );
    server.wait_for("Entering lame duck mode");
    assert_eq!(
        run(&folder, Name::NatsServer, &format!("-sl term={pid}")).code,
        0
    );
    server.wait_for("Trapped \"terminated\" signal");
    client.ping();
}

// proves: CFG-19
#[test]
fn contradictions_fail_at_start_but_not_in_a_config_test() {
    let folder = TempFolder::new();
    folder.write("server.conf", "listen: 127.0.0.1:-1\nmax_payload: 70mb");
    assert_eq!(run(&folder, Name::NatsServer, "-t -c server.conf").code, 0);
    let output = run(&folder, Name::NatsServer, "-c server.conf");
    let text = "nats-server: max_payload (73400320) cannot be higher than max_pending (67108864)\n";
    assert_eq!((output.code, output.stderr.as_str()), (1, text));
}

#[test]
fn a_busy_port_is_fatal() {
    let folder = TempFolder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let output = run(
        &folder,
        Name::NatsServer,
        &format!("-a 127.0.0.1 -p {port}"),
    );
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("[FTL] Error listening on port"),
        "{}",
        output.stderr
    );
}

#[test]
fn under_its_own_name_it_starts_with_jetstream_and_says_where_data_goes() {
    let folder = TempFolder::new();
    let mut server = Server::start(&folder, Name::Millrace, "-a 127.0.0.1 -p -1");
    let line = server.wait_for("Store Directory:");
    // The data folder of a test is inside its own folder.
    assert!(
        line.contains(folder.path("data").to_str().expect("UTF-8")),
        "{line}"
    );
    server.wait_for("Synced to disk:");
    server.wait_for("Server is ready");
}

#[test]
fn under_the_references_name_jetstream_is_off_unless_asked_for() {
    let folder = TempFolder::new();
    let mut server = Server::start(&folder, Name::NatsServer, "-a 127.0.0.1 -p -1");
    let lines = server.lines_until("Server is ready");
    assert!(
        !lines.iter().any(|line| line.contains("JetStream")),
        "{lines:?}"
    );
}
