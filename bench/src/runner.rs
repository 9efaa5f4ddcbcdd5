//! Runs scenarios: servers in turn, a fresh one for each measurement, everything removed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::arguments::Arguments;
use crate::control::{Client, text};
use crate::interrupt;
use crate::pin::{Pinning, Processors};
use crate::report::Row;
use crate::scenario::{Context, Run, Scenario};
use crate::server::{Launch, Server, Side, Syncing};

/// What was measured, and what went wrong with the rest.
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    pub(crate) failures: Vec<String>,
}

/// Measures every scenario in every way of sharing the processors that was asked for. One that fails
/// does not cost the others.
pub(crate) fn run(arguments: &Arguments, scenarios: &[Scenario]) -> Result<Measured, String> {
    let processors = Processors::new()?;
    allow_many_files();
    let data = DataFolder::new(&arguments.data)?;
    let mut measured = Measured {
        rows: Vec::new(),
        failures: Vec::new(),
    };
    for scenario in scenarios {
        for pinning in &arguments.pinnings {
            if *pinning == Pinning::Pinned && processors.len() < 2 {
                eprintln!("only one processor: no pinned rows");
                continue;
            }
            if arguments.url.is_some() && (scenario.restarts || *pinning == Pinning::Pinned) {
                continue;
            }
            let bench = Bench {
                arguments,
                scenario,
                pinning: *pinning,
                processors: &processors,
                data: &data.0,
            };
            if interrupt::requested().load(Ordering::Relaxed) {
                measured.failures.push("interrupted".to_owned());
                return Ok(measured);
            }
            match bench.measure_all() {
                Ok(row) => {
                    eprintln!("{}", row.line());
                    measured.rows.push(row);
                }
                Err(error) => {
                    eprintln!("{error}");
                    measured.failures.push(error);
                }
            }
        }
    }
    Ok(measured)
}

/// One folder for the data of all servers of a run; removed with everything in it, but not if a
/// log in it tells why the run failed.
struct DataFolder(PathBuf);

impl DataFolder {
    fn new(parent: &Path) -> Result<Self, String> {
        let folder = parent.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(text)?;
        Ok(Self(folder))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // Not empty only if a server's log was kept on purpose.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Servers inherit it, too.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it is refused, the scenario with many connections says so itself.
    let _ = setrlimit(Resource::Nofile, raised);
}

struct Bench<'a> {
    arguments: &'a Arguments,
    scenario: &'a Scenario,
    pinning: Pinning,
    processors: &'a Processors,
    data: &'a Path,
}

impl Bench<'_> {
    fn measure_all(&self) -> Result<Row, String> {
        let mut row = Row::new(self.scenario, self.pinning);
        let calls = if self.scenario.is_one_call {
            1
        } else {
            self.arguments.rounds
        };
        for _ in 0..calls {
            if let Some(url) = &self.arguments.url {
                let mut server = Server::remote(url);
                row.ours.extend(self.measure(&mut server, None)?);
                continue;
            }
            row.ours
                .extend(self.measure_started(Side::Ours, &self.arguments.millrace)?);
            if let Some(reference) = &self.arguments.reference {
                row.reference
                    .extend(self.measure_started(Side::Reference, reference)?);
            }
            if self.scenario.has_relay() {
                row.relay
                    .extend(self.measure_started(Side::Relay, Path::new(""))?);
            }
        }
        Ok(row)
    }

    fn measure_started(&self, side: Side, binary: &Path) -> Result<Vec<Run>, String> {
        let launch = Launch {
            side,
            binary,
            data: self.data,
            processors: self.processors,
            pinning: self.pinning,
            syncing: self.scenario.syncing,
        };
        if side == Side::Relay {
            return self.measure(&mut Server::relay(&launch)?, Some(&launch));
        }
        let first = Launch {
            syncing: if self.scenario.is_filled_first {
                Syncing::Shipped
            } else {
                launch.syncing
            },
            ..launch.clone()
        };
        let mut server = Server::start(&first)
            .map_err(|error| format!("{} on {}: {error}", self.scenario.name, binary.display()))?;
        self.measure(&mut server, Some(&launch))
    }

    fn measure(
        &self,
        server: &mut Server,
        launch: Option<&Launch<'_>>,
    ) -> Result<Vec<Run>, String> {
        let mut context = Context {
            server,
            launch,
            scale: self.arguments.scale,
            rounds: self.arguments.rounds,
            streams: Vec::new(),
        };
        let result = (self.scenario.run)(&mut context);
        let streams = std::mem::take(&mut context.streams);
        if launch.is_none() {
            delete_streams(server, &streams);
        }
        let mut runs = result.map_err(|error| self.failure(server, &error))?;
        if server.side != Side::Relay
            && let Some(ended) = server.ended()
        {
            return Err(self.failure(server, &ended));
        }
        for run in &mut runs {
            let peak = server.peak_memory_bytes().map(|bytes| bytes as f64);
            run.peak_memory_bytes = run.peak_memory_bytes.or(peak);
        }
        Ok(runs)
    }

    /// Says which scenario failed on which server, and where its log is.
    fn failure(&self, server: &mut Server, error: &str) -> String {
        let mut message = format!("{} on {:?}: {error}", self.scenario.name, server.side);
        if let Some(ended) = server.ended() {
            message = format!("{message}; {ended}");
        }
        if let Some(log) = server.keep_log() {
            message = format!("{message}\nlog: {}", log.display());
        }
        message
    }
}

/// Leaves a server that was there before as it was.
fn delete_streams(server: &Server, streams: &[String]) {
    let Ok(mut client) = Client::connect(&server.endpoint) else {
        return;
    };
    for stream in streams {
        // Nobody is left to tell: the scenario's own error says more.
        let _ = client.request(&format!("$JS.API.STREAM.DELETE.{stream}"), "");
    }
}
