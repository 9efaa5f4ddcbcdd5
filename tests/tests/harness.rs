//! The harness itself, tried on the reference server.

use millrace_tests::packages::{reference_binary, skip};
use millrace_tests::{RawClient, ServerBuilder};

#[test]
fn the_reference_server_starts_and_answers() {
    let Some(reference) = reference_binary() else {
        skip(
            "the_reference_server_starts_and_answers",
            "no reference server",
        );
        return;
    };
    let server = ServerBuilder::binary(reference).jetstream().start();
    let mut client = RawClient::ready(&server.address);
    let answer = client.request("$JS.API.INFO", b"").json();
    assert_eq!(
        answer["type"],
        "io.nats.jetstream.api.v1.account_info_response"
    );
}
