//! The host's front door: options in, exit code out.

use crate::event_loop::EventLoop;
use crate::logger::{Level, Logger};
use crate::start;
use millrace_config::Options;

/// The server stopped as it was asked to.
pub const EXIT_OK: i32 = 0;
/// It could not start, or had to give up.
pub const EXIT_FAILURE: i32 = 1;

/// Reads the configuration again; an error is a text for the log. What a running server cannot
/// change must be refused here.
pub type Reload = Box<dyn FnMut() -> Result<Reloaded, String>>;

/// Options read again, and what is different in them, as lines for the log.
pub struct Reloaded {
    /// The options to go on with.
    pub options: Options,
    /// One line per change.
    pub changes: Vec<String>,
}

/// What the binary knows besides the options.
pub struct RunContext {
    /// Name under which it was called, without folders: names the ports file.
    pub program: String,
    /// Reads the configuration again; `None` without a configuration file.
    pub reload: Option<Reload>,
    /// Lines of the configuration that were accepted with a warning, for the log.
    pub warnings: Vec<String>,
}

/// Runs a server until it is told to stop, and returns the exit code of the process.
#[must_use]
pub fn run(options: Options, context: RunContext) -> i32 {
    let mut logger = match Logger::open(&options.log) {
        Ok(logger) => logger,
        Err(error) => {
            eprintln!("{}: {error}", context.program);
            return EXIT_FAILURE;
        }
    };
    let parts = match start::start(options, context, &mut logger) {
        Ok(starting) => starting.with_logger(logger),
        Err(reason) => {
            logger.line(Level::Fatal, &reason);
            return EXIT_FAILURE;
        }
    };
    let mut event_loop = EventLoop::new(parts);
    match event_loop.run() {
        Ok(()) => EXIT_OK,
        Err(reason) => {
            event_loop.logger.line(Level::Fatal, &reason);
            EXIT_FAILURE
        }
    }
}
