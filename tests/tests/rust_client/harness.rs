//! A server, a client and a runtime for one test.

use std::future::Future;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use millrace_tests::{Server, ServerBuilder};

/// Longest time a test may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` with a client of a fresh server with JetStream.
pub(crate) fn with_client<F: Future<Output = ()>>(test: impl FnOnce(Client, Context) -> F) {
    let server = Server::jetstream();
    with_server(&server, test);
}

/// The same with a server that is there.
pub(crate) fn with_server<F: Future<Output = ()>>(
    server: &Server,
    test: impl FnOnce(Client, Context) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let context = jetstream::new(client.clone());
        tokio::time::timeout(PATIENCE, test(client, context))
            .await
            .unwrap();
    });
}

/// Kills the server as with `kill -9` and starts it again on its data.
pub(crate) fn restarted(server: Server) -> Server {
    server.restart(ServerBuilder::millrace().jetstream())
}
