//! A small pool of threads that compare passwords with their hashes, which takes tenths of a
//! second each and would stall every connection on the event loop.

use crate::event_loop::{Input, Inputs};
use crate::limits::PASSWORD_THREADS;
use millrace_auth::HashCheck;
use millrace_core::ConnectionId;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

type Task = (ConnectionId, Box<HashCheck>);

/// Runs checks in the order asked for. At most one is outstanding per connection, since the
/// connection is not read meanwhile.
#[derive(Debug)]
pub(crate) struct PasswordPool {
    tasks: Sender<Task>,
}

impl PasswordPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(inputs: &Inputs) -> std::io::Result<Self> {
        let (tasks, receiver) = channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..PASSWORD_THREADS {
            let receiver = Arc::clone(&receiver);
            let inputs = inputs.clone();
            std::thread::Builder::new()
                .name(format!("passwords-{number}"))
                .spawn(move || work(&receiver, &inputs))?;
        }
        Ok(Self { tasks })
    }

    pub(crate) fn check(&self, id: ConnectionId, check: Box<HashCheck>) {
        // The threads live as long as the pool.
        let _ = self.tasks.send((id, check));
    }
}

fn work(receiver: &Mutex<Receiver<Task>>, inputs: &Inputs) {
    loop {
        let task = receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok((id, check)) = task else {
            return;
        };
        inputs.send(Input::PasswordChecked {
            id,
            matches: check.verify(),
        });
    }
}
