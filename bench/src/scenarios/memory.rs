//! Memory: of an idle server, of a connection, of a subscription.

use std::time::Duration;

use crate::scenario::{Check, Context, Metric, Run, Scenario, Unit};

/// Until what a burst of requests left behind has settled; the figure is a state, not a time.
const SETTLE: Duration = Duration::from_millis(500);

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("memory idle", idle).unit(Unit::BytesEach),
        Scenario::new("memory per idle connection, 1,000", connections)
            .unit(Unit::BytesEach)
            .check(Check::most(Metric::Memory, 0.5)),
        Scenario::new("memory per subscription, 100,000", subscriptions)
            .unit(Unit::BytesEach)
            .check(Check::most(Metric::Memory, 0.5)),
    ]
}

fn settled_memory(context: &Context<'_>) -> f64 {
    std::thread::sleep(SETTLE);
    context.server.memory_bytes().unwrap_or_default() as f64
}

fn idle(context: &mut Context<'_>) -> Result<Run, String> {
    let _client = context.connect()?;
    Ok(Run {
        messages: 1,
        memory_bytes: Some(settled_memory(context)),
        ..Run::default()
    })
}

/// Runs `work`, which makes `count` things and returns what keeps them alive.
fn grown<T>(
    context: &mut Context<'_>,
    count: u64,
    work: impl FnOnce(&Context<'_>) -> Result<T, String>,
) -> Result<Run, String> {
    let _client = context.connect()?;
    let before = settled_memory(context);
    let mut kept = None;
    let mut run = context.timed(|| {
        kept = Some(work(context)?);
        Ok(count)
    })?;
    run.memory_bytes = Some((settled_memory(context) - before) / count as f64);
    Ok(run)
}

fn connections(context: &mut Context<'_>) -> Result<Run, String> {
    let count = context.count(1_000);
    grown(context, count, |context| {
        (0..count)
            .map(|_| context.connect())
            .collect::<Result<Vec<_>, _>>()
    })
}

fn subscriptions(context: &mut Context<'_>) -> Result<Run, String> {
    let count = context.count(100_000);
    grown(context, count, |context| {
        let mut client = context.connect()?;
        let lines: String = (0..count)
            .map(|number| format!("SUB bench.{number:06}.answers {number}\r\n"))
            .collect();
        client.send(lines.as_bytes())?;
        client.flush()?;
        Ok(client)
    })
}
