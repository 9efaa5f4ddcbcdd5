//! Streams and what fills them, for the scenarios that need one.

use std::rc::Rc;

use crate::control::Client;
use crate::engine::Engine;
use crate::frames::Supply;
use crate::roles::Acknowledged;
use crate::scenario::{Context, Traffic};

/// Where acknowledgements go.
pub(super) const ACKS: &str = "bench.acks";
/// Publishes of the asynchronous publisher that may be unacknowledged.
pub(super) const WINDOW: u64 = 1_000;
/// The stream of most scenarios.
pub(super) const STREAM: &str = "BENCH";
/// The subject of that stream.
pub(super) const SUBJECT: &str = "bench.data";

/// Creates a stream with these configuration fields; a stream of that name is deleted first.
pub(super) fn create_stream(
    context: &mut Context<'_>,
    name: &str,
    subjects: &str,
    fields: &str,
) -> Result<(), String> {
    let mut client = context.connect()?;
    // It is there only if an earlier run on this server was cut off.
    let _ = client.request(&format!("$JS.API.STREAM.DELETE.{name}"), "");
    let comma = if fields.is_empty() { "" } else { "," };
    client.request(
        &format!("$JS.API.STREAM.CREATE.{name}"),
        &format!("{{\"name\":\"{name}\",\"subjects\":[\"{subjects}\"]{comma}{fields}}}"),
    )?;
    context.streams.push(name.to_owned());
    Ok(())
}

/// A connection that hears acknowledgements.
pub(super) fn publisher(context: &Context<'_>) -> Result<Client, String> {
    let mut client = context.connect()?;
    client.send(format!("SUB {ACKS} 1\r\n").as_bytes())?;
    client.flush()?;
    Ok(client)
}

/// Publishes frames that name [`ACKS`] as reply, outside the measured time.
pub(super) fn fill(
    context: &Context<'_>,
    supply: Supply,
    messages: u64,
    window: u64,
) -> Result<(), String> {
    let mut engine = Engine::new()?;
    let traffic = Rc::new(Traffic::counting(messages));
    let role = Acknowledged::new(supply, window, &traffic);
    engine.add(publisher(context)?, role)?;
    engine.run(|| traffic.is_finished())
}
