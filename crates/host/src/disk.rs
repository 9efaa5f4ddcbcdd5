//! Carries out disk requests: one thread per lane, each doing what it is told in order. What to
//! write, when to sync and what a failure means is decided by `store` and `node`.

use crate::disk_scratch::Scratch;
use crate::event_loop::{Input, Inputs};
use crate::limits::ZERO_FILL_BYTES;
use crate::store_folder::sync_folder;
use crate::sync_times::SyncTimes;
use bytes::Bytes;
use millrace_store::disk::{
    DiskCompletion, DiskError, DiskOperation, DiskReply, DiskRequest, FileId, Lane,
};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Slices handed to one `pwritev`.
const WRITE_SLICES: usize = 256;
/// A long write goes out in pieces of about this many bytes, and the system is asked to begin with
/// each: so the disk works while the next piece is copied, and less is left for the sync behind.
const WRITE_PIECE_BYTES: usize = 1 << 20;

/// The lanes. The queues are bounded by what the node has in flight.
#[derive(Debug)]
pub(crate) struct DiskLanes {
    journal: Sender<DiskRequest>,
    data: Sender<DiskRequest>,
    read: Sender<DiskRequest>,
    sync_times: Arc<SyncTimes>,
}

/// Open files, shared by the lanes: cold reads of a journal file run beside its writes.
type Files = Arc<Mutex<HashMap<FileId, Arc<File>>>>;

impl DiskLanes {
    /// Starts the threads on the store folder `root`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(root: &Path, inputs: &Inputs) -> io::Result<Self> {
        Self::start_with(root, inputs, None)
    }

    /// The same, but nothing in `root` changes: what is made goes to a scratch folder, which goes with
    /// the lanes; what is removed only counts as gone, and what is there cannot be written to.
    ///
    /// # Errors
    /// The system refuses a thread or the folder.
    pub(crate) fn start_reading(root: &Path, inputs: &Inputs) -> io::Result<Self> {
        let scratch = Arc::new(Scratch::new(root)?);
        Self::start_with(root, inputs, Some(scratch))
    }

    fn start_with(root: &Path, inputs: &Inputs, scratch: Option<Arc<Scratch>>) -> io::Result<Self> {
        let files: Files = Arc::default();
        let sync_times = Arc::new(SyncTimes::default());
        let lane =
            |name: &str, times: Option<&Arc<SyncTimes>>| -> io::Result<Sender<DiskRequest>> {
                let (requests, receiver) = channel();
                let executor = Executor {
                    root: root.to_owned(),
                    files: Arc::clone(&files),
                    scratch: scratch.clone(),
                    sync_times: times.cloned(),
                };
                let inputs = inputs.clone();
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || executor.work(&receiver, &inputs))?;
                Ok(requests)
            };
        Ok(Self {
            journal: lane("journal-disk", Some(&sync_times))?,
            data: lane("data-disk", None)?,
            read: lane("read-disk", None)?,
            sync_times,
        })
    }

    /// How long syncs of the journal took.
    pub(crate) fn sync_times(&self) -> &SyncTimes {
        &self.sync_times
    }

    pub(crate) fn submit(&self, request: DiskRequest) {
        let lane = match request.lane {
            Lane::Journal => &self.journal,
            Lane::Data => &self.data,
            Lane::Read => &self.read,
        };
        // The threads live as long as the lanes.
        let _ = lane.send(request);
    }
}

struct Executor {
    root: PathBuf,
    files: Files,
    /// Set: the store itself is only read.
    scratch: Option<Arc<Scratch>>,
    /// Set: syncs are timed.
    sync_times: Option<Arc<SyncTimes>>,
}

impl Executor {
    fn work(&self, requests: &Receiver<DiskRequest>, inputs: &Inputs) {
        let mut next = requests.recv().ok();
        while let Some(DiskRequest {
            token, operation, ..
        }) = next.take()
        {
            let is_write = matches!(operation, DiskOperation::Write { .. });
            let result = self.execute(operation).map_err(disk_error);
            let completion = Input::Disk(DiskCompletion { token, result });
            next = requests.try_recv().ok();
            // A write means nothing before its sync: with more to do, the loop may sleep on.
            if is_write && next.is_some() {
                inputs.send_quietly(completion);
            } else {
                inputs.send(completion);
            }
            next = next.or_else(|| requests.recv().ok());
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let began = Instant::now();
        let result = file.sync_data();
        if let Some(times) = &self.sync_times {
            times.note(began.elapsed());
        }
        result
    }

    fn execute(&self, operation: DiskOperation) -> io::Result<DiskReply> {
        if let Some(scratch) = &self.scratch
            && let Some(result) = self.execute_aside(scratch, &operation)
        {
            return result;
        }
        match operation {
            DiskOperation::List { directory } => self.list(&directory),
            DiskOperation::CreateDirectory { path } => done(fs::create_dir_all(self.path(&path)?)),
            DiskOperation::Create {
                file,
                path,
                preallocate,
            } => {
                let created = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(self.path(&path)?)?;
                if preallocate > 0
                    && let Err(error) = reserve(&created, preallocate)
                {
                    // The name must be free for another try.
                    let _ = fs::remove_file(self.path(&path)?);
                    return Err(error);
                }
                self.keep(file, created);
                Ok(DiskReply::Done)
            }
            DiskOperation::Open { file, path } => {
                let opened = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(self.path(&path)?)?;
                let length = opened.metadata()?.len();
                self.keep(file, opened);
                Ok(DiskReply::Opened { length })
            }
            DiskOperation::Write {
                file,
                offset,
                chunks,
            } => done(write_all(&*self.file(file)?, offset, &chunks)),
            DiskOperation::Sync { file } => done(self.sync(&*self.file(file)?)),
            DiskOperation::Read {
                file,
                offset,
                length,
            } => read(&*self.file(file)?, offset, length).map(DiskReply::Data),
            DiskOperation::Truncate { file, length } => done(self.file(file)?.set_len(length)),
            DiskOperation::Close { file } => {
                self.files().remove(&file);
                Ok(DiskReply::Done)
            }
            DiskOperation::Rename { from, to } => {
                done(fs::rename(self.path(&from)?, self.path(&to)?))
            }
            DiskOperation::Remove { path } => done(or_missing(fs::remove_file(self.path(&path)?))),
            DiskOperation::RemoveTree { path } => {
                done(or_missing(fs::remove_dir_all(self.path(&path)?)))
            }
            DiskOperation::SyncDirectory { path } => done(sync_folder(&self.path(&path)?)),
        }
    }

    /// What touches names, without touching the store; `None`: it is done as always.
    fn execute_aside(
        &self,
        scratch: &Scratch,
        operation: &DiskOperation,
    ) -> Option<io::Result<DiskReply>> {
        let checked = |path: &str| self.path(path).map(|_| ());
        Some(match operation {
            DiskOperation::List { directory } => checked(directory)
                .and_then(|()| scratch.list(directory))
                .map(DiskReply::Names),
            DiskOperation::CreateDirectory { path } => {
                done(checked(path).and_then(|()| scratch.create_directory(path)))
            }
            DiskOperation::Create { file, path, .. } => {
                let created = checked(path).and_then(|()| scratch.create(path));
                done(created.map(|created| self.keep(*file, created)))
            }
            DiskOperation::Open { file, path } => {
                let opened = checked(path).and_then(|()| scratch.open(path));
                opened.and_then(|(opened, writes)| {
                    if !writes {
                        scratch.keep_as_it_is(*file);
                    }
                    let length = opened.metadata()?.len();
                    self.keep(*file, opened);
                    Ok(DiskReply::Opened { length })
                })
            }
            DiskOperation::Rename { from, to } => done(
                checked(from)
                    .and_then(|()| checked(to))
                    .and_then(|()| scratch.rename(from, to)),
            ),
            DiskOperation::Remove { path } | DiskOperation::RemoveTree { path } => {
                done(checked(path).map(|()| scratch.remove(path)))
            }
            DiskOperation::Write { file, .. }
            | DiskOperation::Truncate { file, .. }
            | DiskOperation::Sync { file }
                if scratch.is_kept(*file) =>
            {
                Ok(DiskReply::Done)
            }
            DiskOperation::SyncDirectory { .. } => Ok(DiskReply::Done),
            _ => return None,
        })
    }

    /// The place of a relative path; one that would leave the store folder is refused.
    fn path(&self, relative: &str) -> io::Result<PathBuf> {
        let inside = Path::new(relative).components().all(|part| {
            matches!(
                part,
                std::path::Component::Normal(_) | std::path::Component::CurDir
            )
        });
        if !inside {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "path leaves the store folder",
            ));
        }
        Ok(self.root.join(relative))
    }

    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<FileId, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: FileId, file: File) {
        self.files().insert(id, Arc::new(file));
    }

    fn file(&self, id: FileId) -> io::Result<Arc<File>> {
        self.files().get(&id).cloned().ok_or_else(|| {
            io::Error::new(ErrorKind::NotFound, format!("file {} is not open", id.0))
        })
    }

    fn list(&self, directory: &str) -> io::Result<DiskReply> {
        let entries = match fs::read_dir(self.path(directory)?) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(DiskReply::Names(Vec::new()));
            }
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Names of ours are ASCII; anything else is no file of the store.
            if let Ok(mut name) = entry.file_name().into_string() {
                if entry.file_type()?.is_dir() {
                    name.push('/');
                }
                names.push(name);
            }
        }
        names.sort();
        Ok(DiskReply::Names(names))
    }
}

fn done(result: io::Result<()>) -> io::Result<DiskReply> {
    result.map(|()| DiskReply::Done)
}

fn or_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn disk_error(error: io::Error) -> DiskError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::NoSpace,
        ErrorKind::NotFound => DiskError::NotFound(error.to_string()),
        ErrorKind::AlreadyExists => DiskError::AlreadyExists(error.to_string()),
        _ => DiskError::Other(error.to_string()),
    }
}

/// Reserves space so that later writes within it cannot run out of it.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                return fill_with_zeros(file, bytes);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn fill_with_zeros(file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_FILL_BYTES];
    let mut at = 0;
    while at < bytes {
        let length = usize::try_from(bytes - at)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Writes all chunks one behind the other, whatever the system takes at once.
fn write_all(file: &File, offset: u64, chunks: &[Bytes]) -> io::Result<()> {
    if let [chunk] = chunks {
        return file.write_all_at(chunk, offset);
    }
    let is_long = chunks.iter().map(Bytes::len).sum::<usize>() >= 2 * WRITE_PIECE_BYTES;
    let mut at = offset;
    let mut next = 0;
    let mut written_of_next = 0;
    while next < chunks.len() {
        let mut piece = 0;
        let slices: Vec<IoSlice<'_>> = chunks[next..]
            .iter()
            .take(WRITE_SLICES)
            .take_while(|chunk| {
                let goes_in = piece < WRITE_PIECE_BYTES;
                piece += chunk.len();
                goes_in
            })
            .enumerate()
            .map(|(index, chunk)| {
                IoSlice::new(if index == 0 {
                    &chunk[written_of_next..]
                } else {
                    chunk
                })
            })
            .collect();
        let mut written = match rustix::io::pwritev(file, &slices, at) {
            Ok(0) if slices.iter().any(|slice| !slice.is_empty()) => {
                return Err(ErrorKind::WriteZero.into());
            }
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if is_long {
            begin_writing(file, at, written);
        }
        at += written as u64;
        while let Some(chunk) = chunks.get(next) {
            let left = chunk.len() - written_of_next;
            if written < left {
                written_of_next += written;
                break;
            }
            written -= left;
            written_of_next = 0;
            next += 1;
        }
    }
    Ok(())
}

/// Asks the system to begin to write a range out. Of the ways to ask, this one is safe to call and
/// waits for nothing; what it does to clean pages does not matter. A failure to write is told by the
/// sync, as always.
fn begin_writing(file: &File, offset: u64, length: usize) {
    let length = std::num::NonZeroU64::new(length as u64);
    let _ = rustix::fs::fadvise(file, offset, length, rustix::fs::Advice::DontNeed);
}

/// Reads up to `length` bytes; fewer only at the end of the file.
fn read(file: &File, offset: u64, length: u32) -> io::Result<Bytes> {
    let mut buffer = vec![0; length as usize];
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(Bytes::from(buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executor(name: &str) -> Executor {
        let root =
            std::env::temp_dir().join(format!("millrace-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("a temporary folder");
        Executor {
            root,
            files: Files::default(),
            scratch: None,
            sync_times: None,
        }
    }

    fn run(executor: &Executor, operation: DiskOperation) -> Result<DiskReply, DiskError> {
        executor.execute(operation).map_err(disk_error)
    }

    #[test]
    fn many_chunks_land_behind_each_other_and_read_back() {
        let executor = executor("chunks");
        let file = FileId(1);
        let create = DiskOperation::Create {
            file,
            path: "a".into(),
            preallocate: 4096,
        };
        assert_eq!(run(&executor, create.clone()), Ok(DiskReply::Done));
        assert!(matches!(
            run(&executor, create),
            Err(DiskError::AlreadyExists(_))
        ));
        let chunks: Vec<Bytes> = (0..1000_usize)
            .map(|n| Bytes::from(vec![n as u8; n % 17]))
            .collect();
        let expected = chunks.concat();
        run(
            &executor,
            DiskOperation::Write {
                file,
                offset: 5,
                chunks,
            },
        )
        .expect("written");
        run(&executor, DiskOperation::Sync { file }).expect("synced");
        let length = expected.len() as u32;
        let read = run(
            &executor,
            DiskOperation::Read {
                file,
                offset: 5,
                length,
            },
        );
        assert_eq!(read, Ok(DiskReply::Data(Bytes::from(expected))));
        run(&executor, DiskOperation::Truncate { file, length: 7 }).expect("cut");
        let read = run(
            &executor,
            DiskOperation::Read {
                file,
                offset: 5,
                length: 100,
            },
        );
        assert!(matches!(read, Ok(DiskReply::Data(data)) if data.len() == 2));
        fs::remove_dir_all(&executor.root).expect("removed");
    }

    #[test]
    fn a_long_write_in_pieces_lands_whole() {
        let executor = executor("pieces");
        let file = FileId(1);
        let create = DiskOperation::Create {
            file,
            path: "a".into(),
            preallocate: 4096,
        };
        run(&executor, create).expect("created");
        let lengths = [0, 1, WRITE_PIECE_BYTES + 7, 0, 300_000, 900_000, 5, 700_000];
        let chunks: Vec<Bytes> = lengths
            .iter()
            .enumerate()
            .map(|(number, length)| Bytes::from(vec![number as u8; *length]))
            .collect();
        let expected = chunks.concat();
        assert!(expected.len() >= 2 * WRITE_PIECE_BYTES);
        let (offset, length) = (3, expected.len() as u32);
        let write = DiskOperation::Write {
            file,
            offset,
            chunks,
        };
        run(&executor, write).expect("written");
        let read = DiskOperation::Read {
            file,
            offset,
            length,
        };
        let read = run(&executor, read);
        assert_eq!(read, Ok(DiskReply::Data(Bytes::from(expected))));
        fs::remove_dir_all(&executor.root).expect("removed");
    }

    #[test]
    fn folders_are_listed_sorted_and_paths_cannot_leave_the_store() {
        let executor = executor("folders");
        let make = |path: &str| DiskOperation::CreateDirectory { path: path.into() };
        for path in ["b/c", "a"] {
            run(&executor, make(path)).expect("made");
        }
        let list = |directory: &str| DiskOperation::List {
            directory: directory.into(),
        };
        let names = DiskReply::Names(vec!["a/".into(), "b/".into()]);
        assert_eq!(run(&executor, list("")), Ok(names));
        assert_eq!(
            run(&executor, list("missing")),
            Ok(DiskReply::Names(Vec::new()))
        );
        for path in ["../x", "/tmp/x", "a/../../x"] {
            assert!(
                matches!(run(&executor, make(path)), Err(DiskError::Other(_))),
                "{path}"
            );
        }
        let remove = DiskOperation::Remove {
            path: "missing".into(),
        };
        assert_eq!(run(&executor, remove), Ok(DiskReply::Done));
        fs::remove_dir_all(&executor.root).expect("removed");
    }
}
