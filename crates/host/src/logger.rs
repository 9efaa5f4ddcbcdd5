//! The server's log: lines in the reference's format (spec core/14 §14.2) to standard error, a file
//! that can be reopened, or a system log. Which lines are written is decided by whoever calls.

use crate::clock::wall_ns;
use crate::syslog::Syslog;
use millrace_config::options::LogOptions;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// Log files are readable by the group, as the reference's.
const FILE_MODE: u32 = 0o640;

/// The mark of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    Fatal,
}

impl Level {
    const fn mark(self) -> &'static str {
        match self {
            Self::Trace => "[TRC]",
            Self::Debug => "[DBG]",
            Self::Info => "[INF]",
            Self::Warning => "[WRN]",
            Self::Error => "[ERR]",
            Self::Fatal => "[FTL]",
        }
    }
}

/// Writes lines. Owned by the event loop's thread.
#[derive(Debug)]
pub(crate) struct Logger {
    process: u32,
    time: bool,
    zone: jiff::tz::TimeZone,
    debug: bool,
    trace: bool,
    file: Option<(PathBuf, File)>,
    /// Where lines go that go to no file.
    syslog: Option<Syslog>,
    /// What `syslog` was opened for.
    syslog_of: Option<String>,
    written: u64,
    size_limit: u64,
    keep: usize,
}

impl Logger {
    /// Opens what lines are to go to.
    ///
    /// # Errors
    /// The file cannot be opened, or the system log not be reached; a text for the operator.
    pub(crate) fn open(options: &LogOptions) -> Result<Self, String> {
        let file = file_of(options)?;
        let written = file
            .as_ref()
            .and_then(|(_, file)| file.metadata().ok())
            .map_or(0, |m| m.len());
        let mut logger = Self {
            process: std::process::id(),
            time: true,
            zone: jiff::tz::TimeZone::UTC,
            debug: false,
            trace: false,
            file,
            syslog: None,
            syslog_of: None,
            written,
            size_limit: 0,
            keep: 0,
        };
        logger.configure(options);
        logger.renew_syslog(options)?;
        Ok(logger)
    }

    /// Takes over everything, the file and the system log too if they are others.
    ///
    /// # Errors
    /// The new one cannot be opened; then lines go where they went before.
    pub(crate) fn redirect(&mut self, options: &LogOptions) -> Result<(), String> {
        self.configure(options);
        let old = self.file.as_ref().map(|(path, _)| path.clone());
        if old
            != options
                .file
                .as_ref()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        {
            self.file = file_of(options)?;
            self.written = 0;
        }
        self.renew_syslog(options)
    }

    fn renew_syslog(&mut self, options: &LogOptions) -> Result<(), String> {
        let is_wanted = options.syslog || !options.remote_syslog.is_empty();
        let wanted = is_wanted.then(|| options.remote_syslog.clone());
        if wanted == self.syslog_of {
            return Ok(());
        }
        let open = |place: &String| Syslog::open(place, self.zone.clone());
        self.syslog = wanted.as_ref().map(open).transpose()?;
        self.syslog_of = wanted;
        Ok(())
    }

    /// Takes over levels and format; the file stays as it is.
    pub(crate) fn configure(&mut self, options: &LogOptions) {
        self.time = options.time;
        self.zone = if options.time_utc {
            jiff::tz::TimeZone::UTC
        } else {
            jiff::tz::TimeZone::system()
        };
        (self.debug, self.trace) = (options.debug, options.trace);
        self.size_limit = options.file_size_limit;
        self.keep = options.file_keep;
    }

    /// Whether lines of this level are written.
    pub(crate) const fn enabled(&self, level: Level) -> bool {
        match level {
            Level::Trace => self.trace,
            Level::Debug => self.debug,
            _ => true,
        }
    }

    pub(crate) fn info(&mut self, text: &str) {
        self.line(Level::Info, text);
    }

    pub(crate) fn line(&mut self, level: Level, text: &str) {
        if !self.enabled(level) {
            return;
        }
        if let (None, Some(syslog)) = (&self.file, &self.syslog) {
            syslog.line(level, text);
            return;
        }
        let line = self.format(level, text);
        // A log that cannot be written must not stop the server.
        match &mut self.file {
            Some((_, file)) => {
                let _ = file.write_all(line.as_bytes());
                self.written += line.len() as u64;
                if self.size_limit > 0 && self.written > self.size_limit {
                    self.rotate();
                }
            }
            None => {
                let _ = io::stderr().write_all(line.as_bytes());
            }
        }
    }

    fn format(&self, level: Level, text: &str) -> String {
        let mut line = format!("[{}] ", self.process);
        if self.time {
            line.push_str(&self.timestamp("%Y/%m/%d %H:%M:%S%.6f"));
            line.push(' ');
        }
        line.push_str(level.mark());
        line.push(' ');
        line.push_str(text);
        line.push('\n');
        line
    }

    fn timestamp(&self, pattern: &str) -> String {
        let moment = jiff::Timestamp::from_nanosecond(i128::from(wall_ns()))
            .unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        moment
            .to_zoned_datetime(self.zone.clone())
            .strftime(pattern)
            .to_string()
    }

    /// Opens the file anew under the same name (after it was moved away).
    pub(crate) fn reopen(&mut self) {
        let Some((path, _)) = &self.file else {
            self.info("File log re-open ignored, not a file logger");
            return;
        };
        let path = path.clone();
        match open_file(&path) {
            Ok(file) => {
                self.written = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some((path, file));
                self.info("File log re-opened");
            }
            Err(error) => {
                let text = format!("Unable to re-open log file: {error}");
                self.line(Level::Error, &text);
            }
        }
    }

    /// Moves the file aside under its time and goes on in a fresh one.
    fn rotate(&mut self) {
        let Some((path, _)) = &self.file else {
            return;
        };
        let path = path.clone();
        let suffix = self.timestamp("%Y.%m.%d.%H.%M.%S.%9f");
        let aside = PathBuf::from(format!("{}.{suffix}", path.display()));
        self.written = 0;
        if std::fs::rename(&path, &aside).is_err() {
            return;
        }
        if let Ok(file) = open_file(&path) {
            self.file = Some((path.clone(), file));
        }
        if self.keep > 0 {
            remove_oldest(&path, self.keep - 1);
        }
    }
}

/// The log file of the configuration; `None` means standard error.
fn file_of(options: &LogOptions) -> Result<Option<(PathBuf, File)>, String> {
    let path = options
        .file
        .as_ref()
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    let Some(path) = path else {
        return Ok(None);
    };
    match open_file(&path) {
        Ok(file) => Ok(Some((path, file))),
        Err(error) => Err(format!("error opening log file {path:?}: {error}")),
    }
}

fn open_file(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Removes rotated files of `path` but the newest `keep`.
fn remove_oldest(path: &std::path::Path, keep: usize) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return;
    };
    let folder = if folder.as_os_str().is_empty() {
        std::path::Path::new(".")
    } else {
        folder
    };
    let prefix = format!("{name}.");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut rotated: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.starts_with(&prefix))
        })
        .map(|entry| entry.path())
        .collect();
    // Names hold the time, so their order is that of age.
    rotated.sort();
    let surplus = rotated.len().saturating_sub(keep);
    for old in &rotated[..surplus] {
        let _ = std::fs::remove_file(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_of_the_reference_and_files_are_rotated() {
        let folder = std::env::temp_dir().join(format!("millrace-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("log");
        let options = LogOptions {
            file: Some(path.display().to_string()),
            file_size_limit: 200,
            file_keep: 3,
            ..LogOptions::default()
        };
        let mut logger = Logger::open(&options).expect("opened");
        logger.line(Level::Debug, "not written");
        for number in 0..50 {
            logger.info(&format!("line {number}"));
        }
        let count = std::fs::read_dir(&folder).expect("listed").count();
        assert_eq!(count, 3, "the current file and two older ones");
        logger.line(Level::Error, "last");
        let text = std::fs::read_to_string(&path).expect("text");
        let line = text.lines().last().expect("a line");
        let fields: Vec<&str> = line.split(' ').collect();
        let [process, date, time, mark, word] = fields[..] else {
            panic!("{line}")
        };
        assert_eq!(process, format!("[{}]", std::process::id()));
        assert_eq!(
            (date.len(), time.len()),
            ("2026/11/24".len(), "17:00:00.000000".len())
        );
        assert_eq!((mark, word), ("[ERR]", "last"));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
