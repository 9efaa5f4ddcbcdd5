//! Large payloads: an object store's chunks, and messages of the largest size.

use super::consumers::replay;
use super::jetstream::{ACKS, STREAM, SUBJECT, create_stream, fill};
use super::publish::windowed_supply;
use crate::frames::{Supply, publish};
use crate::scenario::{Check, Context, Metric, Run, Scenario, Traffic, Unit};
use crate::server::Syncing;

/// Bytes of an object store's chunk, as clients cut objects.
const CHUNK_BYTES: usize = 128 << 10;
/// Chunks of an object of 1 GiB.
const CHUNKS: u64 = 8192;
/// Chunks on their way.
const CHUNK_WINDOW: u64 = 256;
/// Messages of 1 MiB on their way.
const MEBIBYTE_WINDOW: u64 = 32;
const OBJECT_SUBJECT: &str = "$O.BENCH.C.0123456789abcdefghijkl";

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = Vec::new();
    for syncing in [Syncing::Shipped, Syncing::Always] {
        let rows = [
            Scenario::new("jetstream object store put, 1 GiB", object_put)
                .unit(Unit::MebibytesPerSecond(CHUNK_BYTES)),
            Scenario::new("jetstream object store get, 1 GiB", object_get)
                .filled_first()
                .unit(Unit::MebibytesPerSecond(CHUNK_BYTES)),
            Scenario::new("jetstream async publish, 1 MiB", async_mebibytes)
                .unit(Unit::MebibytesPerSecond(1 << 20)),
        ];
        list.extend(rows.map(|row| {
            let row = row.syncing(syncing);
            if syncing == Syncing::Shipped {
                row.check(Check::least(Metric::Rate, 0.8))
            } else {
                row
            }
        }));
    }
    list
}

fn create_object_store(context: &mut Context<'_>) -> Result<Supply, String> {
    let fields =
        "\"storage\":\"file\",\"discard\":\"new\",\"allow_rollup_hdrs\":true,\"allow_direct\":true";
    create_stream(context, "OBJ_BENCH", "$O.BENCH.C.>", fields)?;
    Ok(Supply::repeat(&publish(
        OBJECT_SUBJECT,
        ACKS,
        "",
        CHUNK_BYTES,
    )))
}

fn object_put(context: &mut Context<'_>) -> Result<Run, String> {
    let supply = create_object_store(context)?;
    let traffic = Traffic::counting(context.count(CHUNKS));
    windowed_supply(context, supply, CHUNK_WINDOW, traffic)
}

fn object_get(context: &mut Context<'_>) -> Result<Run, String> {
    let supply = create_object_store(context)?;
    let chunks = context.count(CHUNKS);
    fill(context, supply, chunks, CHUNK_WINDOW)?;
    context.filled()?;
    replay(context, "OBJ_BENCH", chunks)
}

fn async_mebibytes(context: &mut Context<'_>) -> Result<Run, String> {
    create_stream(context, STREAM, SUBJECT, "\"storage\":\"file\"")?;
    let supply = Supply::repeat(&publish(SUBJECT, ACKS, "", 1 << 20));
    let traffic = Traffic::lasting(context.phase());
    windowed_supply(context, supply, MEBIBYTE_WINDOW, traffic)
}
