//! What was erased must be nowhere on the disk once the journal says that it is gone, and after every
//! start behind that: the oracle of erases beside `journal_run.rs`.

use crate::disk::SimDisk;
use bytes::Bytes;
use millrace_store::journal::RecordTicket;

/// Payloads that are looked for; older ones are forgotten.
const LOOKED_FOR_MAX: usize = 24;
/// They begin with so many bytes that are nowhere else by chance.
const PAYLOAD_BYTES_MIN: usize = 16;

/// What is to go, and what is gone.
#[derive(Debug, Default)]
pub(crate) struct Erasing {
    doomed: Vec<Bytes>,
    ticket: RecordTicket,
    is_durable: bool,
    gone: Vec<Bytes>,
    pub(crate) erased: u64,
}

impl Erasing {
    /// All of these are to go, because of a record with this ticket.
    pub(crate) fn erase(&mut self, payloads: impl Iterator<Item = Bytes>, ticket: RecordTicket) {
        let long = payloads.filter(|payload| payload.len() >= PAYLOAD_BYTES_MIN);
        let new: Vec<Bytes> = long
            .filter(|payload| !self.doomed.contains(payload))
            .collect();
        self.doomed.extend(new);
        forget_oldest(&mut self.doomed);
        self.ticket = ticket;
        self.is_durable = false;
    }

    pub(crate) fn durable(&mut self, through: RecordTicket) {
        self.is_durable |= through >= self.ticket;
    }

    /// Unsynced writes may be gone.
    pub(crate) fn power_cut_in_lazy_mode(&mut self) {
        self.is_durable = false;
    }

    /// The journal says whether something is still to go.
    pub(crate) fn check(&mut self, disk: &SimDisk, is_erasing: bool) -> Result<(), String> {
        if is_erasing || self.doomed.is_empty() {
            return Ok(());
        }
        self.erased += self.doomed.len() as u64;
        self.gone.append(&mut self.doomed);
        forget_oldest(&mut self.gone);
        self.is_durable = false;
        self.look(disk)
    }

    /// A start has ended.
    pub(crate) fn check_start(&mut self, disk: &SimDisk, is_erasing: bool) -> Result<(), String> {
        if !is_erasing && !self.is_durable {
            // Nobody was told that anything was erased.
            self.doomed.clear();
        }
        self.check(disk, is_erasing)?;
        self.look(disk)
    }

    fn look(&self, disk: &SimDisk) -> Result<(), String> {
        let finders: Vec<memchr::memmem::Finder<'_>> = self
            .gone
            .iter()
            .filter_map(|payload| payload.get(..PAYLOAD_BYTES_MIN))
            .map(memchr::memmem::Finder::new)
            .collect();
        for (path, content) in disk.files() {
            for finder in &finders {
                if let Some(at) = finder.find(content) {
                    return Err(format!("what was erased stands in {path} at byte {at}"));
                }
            }
        }
        Ok(())
    }
}

fn forget_oldest(payloads: &mut Vec<Bytes>) {
    let surplus = payloads.len().saturating_sub(LOOKED_FOR_MAX);
    payloads.drain(..surplus);
}
