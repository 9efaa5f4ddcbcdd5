//! The language and the decoder from outside: values, messages, and that nothing makes them panic.

use millrace_config::language::{Sources, Value, parse_tree};
use millrace_config::{ConfigErrors, Options, parse};
use proptest::prelude::*;

fn no_files(path: &str) -> Result<String, String> {
    match path {
        "conf/part.conf" => Ok("host 10.0.0.1\nwhere here\n".to_owned()),
        "conf/wrong.conf" => Ok("port: [\n".to_owned()),
        "conf/twice.conf" => Ok("include twice.conf\ninclude twice.conf\n".to_owned()),
        "conf/circle.conf" => Ok("include circle.conf\n".to_owned()),
        _ => Err(format!("open {path}: no such file or directory")),
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("4333".to_owned()),
        "LIST" => Some("[a, b]".to_owned()),
        "OTHER" => Some("$PORT".to_owned()),
        "LOOP" => Some("$LOOP".to_owned()),
        _ => None,
    }
}

fn value_of(text: &str) -> Result<Value, String> {
    let sources = Sources {
        load: &no_files,
        environment: &environment,
    };
    let tree = parse_tree(&format!("x: {text}\n"), "conf/main.conf", sources)
        .map_err(|error| error.to_string())?;
    Ok(tree.root.get("x").expect("the key is there").value.clone())
}

fn options(text: &str) -> Result<Options, ConfigErrors> {
    parse(text, "conf/main.conf", &no_files, &environment).map(|(options, _)| options)
}

fn message(text: &str) -> String {
    match parse(text, "conf/main.conf", &no_files, &environment) {
        Ok((_, warnings)) => warnings.iter().map(|w| format!("{w}\n")).collect(),
        Err(errors) => errors.to_string(),
    }
}

// proves: CFG-05, CFG-07, CFG-08
#[test]
fn scalars_mean_what_the_reference_makes_of_them() {
    let text = |text: &str| Value::Text(text.to_owned());
    let cases = [
        ("2m", Value::Integer(2_000_000)),
        ("2MiB", Value::Integer(2 * 1024 * 1024)),
        ("-2kb", Value::Integer(-2048)),
        ("007", Value::Integer(7)),
        ("1.50", Value::Float(1.5)),
        ("On", Value::Bool(true)),
        ("'yes'", text("yes")),
        ("60s", text("60s")),
        ("127.0.0.1:4222", text("127.0.0.1:4222")),
        ("a'", text("a")),
        ("\"a\\tb\\x41\"", text("a\tbA")),
        ("'a\\tb'", text("a\\tb")),
        ("$2a$10$abc", text("$2a$10$abc")),
        ("(\nab\n)", text("\nab\n")),
        (
            "2026-01-02T03:04:05Z",
            Value::Time("2026-01-02T03:04:05Z".to_owned()),
        ),
        ("$PORT", Value::Integer(4333)),
        ("$OTHER", Value::Integer(4333)),
    ];
    for (source, expected) in cases {
        assert_eq!(value_of(source), Ok(expected), "{source}");
    }
}

// proves: CFG-10, CFG-18
#[test]
fn variables_are_looked_up_outwards_and_unused_ones_are_unknown_fields() {
    assert_eq!(options("p 4000\nport $p").map(|o| o.client.port), Ok(4000));
    let nested = |text: &str| options(text).map(|o| (o.client.port, o.jetstream.max_memory));
    assert_eq!(
        nested("p 4000\nport $p\njetstream { max_mem $p }"),
        Ok((4000, Some(4000)))
    );
    assert_eq!(
        nested("p 4000\njetstream { p 100, max_mem $p }\nport $p"),
        Ok((4000, Some(100)))
    );
    assert_eq!(
        message("p 4000\nport 1"),
        "conf/main.conf:1:0: unknown field \"p\""
    );
    assert_eq!(
        message("port $nope"),
        "variable reference for 'nope' on line 1 can not be found"
    );
    assert!(message("port $LOOP").contains("variable reference cycle for 'LOOP'"));
}

// proves: CFG-13
#[test]
fn includes_merge_beside_the_including_file() {
    let with_include = options("include part.conf\nserver_name $where").expect("valid");
    assert_eq!(with_include.client.host, "10.0.0.1");
    assert_eq!(with_include.server_name.as_deref(), Some("here"));
    assert_eq!(
        message("include gone.conf"),
        "error parsing include file 'gone.conf', open conf/gone.conf: no such file or directory"
    );
    assert!(message("include wrong.conf").starts_with("error parsing include file 'wrong.conf'"));
    assert!(message("include circle.conf").contains("nested more than"));
}

#[test]
fn inputs_that_explode_are_refused_early() {
    // Without a limit on depth alone this would read 2^32 files.
    assert!(message("include twice.conf").contains("nested more than"));
    let mut text = "v0 [a, a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..10 {
        let list = vec![format!("$v{}", level - 1); 10].join(", ");
        text.push_str(&format!("v{level} [{list}]\n"));
    }
    assert!(message(&text).contains("values copied from variables"));
    assert!(message(&"a {".repeat(10_000)).contains("nested more than"));
    assert!(message(&format!("a {}", "[".repeat(10_000))).contains("nested more than"));
}

// proves: CFG-11
#[test]
fn texts_of_the_environment_are_read_as_values() {
    let list = |text: &str| match value_of(text) {
        Ok(Value::Array(elements)) => elements.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list("$LIST"), 2);
    assert_eq!(value_of("$PORT"), Ok(Value::Integer(4333)));
    assert_eq!(options("port $PORT").map(|o| o.client.port), Ok(4333));
}

// proves: CFG-14
#[test]
fn unknown_keys_are_located_and_the_closest_known_one_is_named() {
    assert_eq!(
        message("debug true\n  prot 4222\nmax_payload 9gb"),
        "conf/main.conf:2:3: unknown field \"prot\", did you mean \"port\"?\n\
         conf/main.conf:3:1: max_payload value is too big"
    );
    assert_eq!(
        message("cluster { prot 6222 }"),
        "conf/main.conf:1:10: unknown field \"prot\", did you mean \"port\"?"
    );
    assert_eq!(message("cluster {}\nsyslog false"), "");
}

// proves: CFG-09, CFG-15
#[test]
fn bare_numbers_as_durations_are_warnings() {
    let text = "conf/main.conf:1:0: invalid use of field \"ping_interval\": \
                ping_interval should be converted to a duration\n";
    assert_eq!(message("ping_interval 2"), text);
    assert_eq!(
        options("ping_interval 2").map(|o| o.client.ping_interval_ns),
        Ok(2_000_000_000)
    );
    assert_eq!(
        options("ping_interval '3m'").map(|o| o.client.ping_interval_ns),
        Ok(180_000_000_000)
    );
    assert_eq!(
        message("# nothing\n"),
        "conf/main.conf: config has no values or is empty\n"
    );
}

#[test]
fn a_whole_file_arrives_in_the_options() {
    let text = r#"
        listen: 127.0.0.1:-1, server_name: "n1"
        server_tags: [A, "b", a]
        http: 8222
        authorization {
            default_permissions { publish: "open.>" }
            users = [
                { user: a, password: "$2a$11$x", permissions { subscribe { deny: ["x", "y q"] } } }
                { user: b, pass: b, allowed_connection_types: [standard, websocket] }
            ]
            timeout: "1500ms"
        }
        accounts { SYS { users [ { user: s, pass: s } ] }, JS { jetstream { max_mem 1GB, streams 3 } } }
        system_account: SYS
        jetstream {
            store_dir: "/data", max_file: 10GB, max_mem: "64M", max_cache: 32MB, sync: always, domain: hub
            limits { batch { max_msgs: 5, timeout: "3s" }, max_ack_pending: 7 }
        }
    "#;
    let options = options(text).expect("valid");
    assert_eq!(
        (options.client.host.as_str(), options.client.port),
        ("127.0.0.1", -1)
    );
    assert_eq!(options.server_tags, ["a", "b"]);
    assert_eq!(options.monitor.http_port, 8222);
    assert_eq!(options.authorization.timeout_ns, 1_500_000_000);
    let users = &options.authorization.users;
    let deny = users[0]
        .permissions
        .as_ref()
        .and_then(|p| p.subscribe.as_ref())
        .expect("set");
    assert_eq!(deny.deny, ["x", "y q"]);
    let default = users[1]
        .permissions
        .as_ref()
        .and_then(|p| p.publish.as_ref())
        .expect("set");
    assert_eq!(default.allow, ["open.>"]);
    assert_eq!(options.accounts.len(), 2);
    let limits = options.accounts[1].jetstream.as_ref().expect("set");
    assert_eq!((limits.max_memory, limits.max_streams), (1 << 30, 3));
    assert_eq!(options.jetstream.max_memory, Some(64 << 20));
    assert_eq!(options.jetstream.max_cache, Some(32 << 20));
    assert_eq!(options.jetstream.limits.batch.max_messages, 5);
    assert_eq!(options.jetstream.limits.max_ack_pending, Some(7));
    assert_eq!(options.system_account.as_deref(), Some("SYS"));
}

// proves: KEY-12
#[test]
fn tags_metadata_flags_and_domains_are_read() {
    let text = "server_tags ['A:1', 'b, c', \"a:1\"]\nserver_metadata { k: v }\nfeature_flags { f: true }\n\
                default_js_domain { A: d }";
    let options = options(text).expect("valid");
    assert_eq!(options.server_tags, ["a:1", "b, c"]);
    assert_eq!(
        options.server_metadata.get("k").map(String::as_str),
        Some("v")
    );
    assert_eq!(options.feature_flags.get("f"), Some(&true));
    assert_eq!(
        options
            .jetstream
            .default_domain
            .get("A")
            .map(String::as_str),
        Some("d")
    );
}

// proves: CFG-17
#[test]
fn the_digest_ignores_form_and_comments() {
    let digest = |text: &str| options(text).map(|options| options.config_digest);
    let expected = "sha256:797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e";
    for text in ["port: 4222", "{\n port = 4222 # c\n}", "'port' 4222;"] {
        assert_eq!(digest(text).as_deref(), Ok(expected), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered_without_panic(text in "\\PC{0,80}") {
        let _ = message(&text);
    }

    #[test]
    fn pieces_of_the_language_are_answered_without_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24)
    ) {
        let _ = message(&pieces.concat());
    }
}

const PIECES: &[&str] = &[
    "port",
    "jetstream",
    "users",
    "authorization",
    "tls",
    "accounts",
    "permissions",
    " ",
    "\n",
    ":",
    "=",
    "{",
    "}",
    "[",
    "]",
    ",",
    ";",
    "#",
    "//",
    "/",
    "'",
    "\"",
    "\\",
    "\\x4",
    "1",
    "2m",
    "-1",
    "1.5",
    "1.2.3",
    "true",
    "$PORT",
    "$LIST",
    "$x",
    "(",
    ")\n",
    "2026-01-01T00:00:00Z",
    "é",
    "include part.conf\n",
    "user a",
    "pass b",
    "limits",
    "publish",
    "allow",
    "deny",
    "max_mem",
];
