//! An operator that asks for a newer server than this.

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::server::wait_for;
use serde_json::json;

use crate::Cast;

/// What a server says that does not start with this configuration.
fn start_refusal(binary: &std::path::Path, config: &str) -> String {
    let folder = millrace_tests::fresh_folder("refusal");
    let path = folder.join("server.conf");
    std::fs::write(&path, config).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut server = std::process::Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", "-1", "-c"])
        .arg(&path)
        .stderr(log)
        .spawn()
        .unwrap();
    let status = wait_for("the server to refuse", || server.try_wait().unwrap());
    assert!(!status.success());
    let text = std::fs::read_to_string(folder.join("log")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    text
}

// proves: JWT-11
#[test]
fn an_operator_that_asks_for_a_newer_server_is_refused_as_by_the_reference() {
    let cast = Cast::new();
    let ours = millrace_tests::millrace_binary();
    let Some(reference) = reference_binary() else {
        skip("newer servers", "the reference binary is not to be had");
        return;
    };
    for (version, part) in [
        ("3.0.0", "major"),
        ("2.99.0", "minor"),
        ("2.15.99", "update"),
    ] {
        let claims = json!({
            "type": "operator", "system_account": cast.system.public,
            "signing_keys": [cast.operator_signing.public], "assert_server_version": version,
        });
        let operator = cast
            .operator
            .token(&cast.operator.public, &json!({}), claims);
        let config = cast.config(false, &json!({}));
        let (_, accounts) = config.split_once('\n').unwrap();
        let config = format!("operator: {operator}\n{accounts}");
        let words = format!("operator {} expected {part} version", cast.operator.public);
        let reason = |binary| {
            let text = start_refusal(binary, &config);
            let at = text.find(&words).unwrap_or_else(|| panic!("{text}"));
            text[at..].lines().next().unwrap().to_owned()
        };
        assert_eq!(reason(&ours), reason(&reference));
    }
}
