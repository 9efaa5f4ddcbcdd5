//! The broker answers the first things any client says.

mod support;

use support::Bench;

#[test]
fn a_client_connects_subscribes_and_gets_its_message() {
    let mut bench = Bench::new(millrace_config::Options::default());
    bench.open("a");
    let info = bench.take("a");
    assert!(
        info.starts_with("INFO {\"server_id\":\"NID\"") && info.ends_with("} \r\n"),
        "{info}"
    );
    let connect = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
    assert_eq!(bench.exchange("a", connect), "PONG\r\n");
    assert_eq!(
        bench.exchange("a", "SUB foo.* 1\r\nPUB foo.x 5\r\nhello\r\n"),
        "MSG foo.x 1 5\r\nhello\r\n"
    );
    assert_eq!(
        bench.exchange("a", "SUB in 2\r\nPUB none in 0\r\n\r\n"),
        "HMSG in 2 36 36\r\nNATS/1.0 503\r\nNats-Subject: none\r\n\r\n\r\n"
    );
    assert_eq!(
        bench.exchange("a", "NOPE\r\n"),
        "-ERR 'Unknown Protocol Operation'\r\n<EOF>"
    );
}
