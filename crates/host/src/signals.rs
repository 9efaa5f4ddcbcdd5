//! Signals of the system as inputs of the event loop.

use crate::event_loop::{Input, Inputs};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

/// A signal the server acts on (spec core/05 §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Hangup,
    User1,
    User2,
}

impl Signal {
    /// The name in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
            Self::Hangup => "hangup",
            Self::User1 => "user defined signal 1",
            Self::User2 => "user defined signal 2",
        }
    }
}

/// Sends every signal of the process to the event loop from now on.
///
/// # Errors
/// The system refuses a handler or a thread.
pub(crate) fn watch(inputs: Inputs) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for number in signals.forever() {
                let signal = match number {
                    SIGINT => Signal::Interrupt,
                    SIGTERM => Signal::Terminate,
                    SIGHUP => Signal::Hangup,
                    SIGUSR1 => Signal::User1,
                    _ => Signal::User2,
                };
                inputs.send(Input::Signal(signal));
            }
        })?;
    Ok(())
}
