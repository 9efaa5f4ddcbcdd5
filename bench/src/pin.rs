//! Which processors the generator and the server run on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::control::text;

/// How the server and the generator share the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pinning {
    /// One processor for the server, another one for the generator.
    Pinned,
    /// Both wherever the scheduler puts them.
    Free,
}

impl Pinning {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pinned => "1+1",
            Self::Free => "free",
        }
    }
}

/// The processors that this process may use.
pub(crate) struct Processors {
    all: CpuSet,
    numbers: Vec<usize>,
}

impl Processors {
    pub(crate) fn new() -> Result<Self, String> {
        let all = sched_getaffinity(None).map_err(text)?;
        let numbers = (0..CpuSet::MAX_CPU)
            .filter(|number| all.is_set(*number))
            .collect();
        Ok(Self { all, numbers })
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Puts this thread where the server is to run: a child started now inherits it.
    pub(crate) fn place_server(&self, pinning: Pinning) -> Result<(), String> {
        self.place(pinning, self.numbers.first())
    }

    /// Puts this thread where the generator is to run.
    pub(crate) fn place_generator(&self, pinning: Pinning) -> Result<(), String> {
        self.place(pinning, self.numbers.last())
    }

    fn place(&self, pinning: Pinning, number: Option<&usize>) -> Result<(), String> {
        let mut set = self.all;
        if let (Pinning::Pinned, Some(number)) = (pinning, number) {
            set.clear();
            set.set(*number);
        }
        sched_setaffinity(None, &set).map_err(text)
    }
}
