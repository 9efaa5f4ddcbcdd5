//! From flags and file to the options a server starts with, and again at a reload.

use std::path::Path;

use millrace_config::options::Resolver;
use millrace_config::{COMPATIBLE_VERSION, Flags, Options, Warning, parse};
use millrace_host::{Reload, Reloaded};

/// The name of the reference's executable.
const REFERENCE_NAME: &str = "nats-server";

/// The name this process was called under.
#[derive(Clone, Debug)]
pub(crate) struct Program(String);

impl Program {
    pub(crate) fn called_as(argument: &str) -> Self {
        let name = Path::new(argument)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Self(name.unwrap_or_else(|| "millrace".to_owned()))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Whether it stands in for the reference and must have its defaults.
    fn is_stand_in(&self) -> bool {
        self.0 == REFERENCE_NAME
    }

    pub(crate) fn version(&self) -> String {
        let name = &self.0;
        if self.is_stand_in() {
            format!("{name}: v{COMPATIBLE_VERSION}")
        } else {
            let own = env!("CARGO_PKG_VERSION");
            format!("{name}: v{own} (compatible with {REFERENCE_NAME} v{COMPATIBLE_VERSION})")
        }
    }

    /// Fills in what neither file nor flags said.
    fn set_defaults(&self, options: &mut Options, flags: &Flags) {
        let nothing_said = options.config_file.is_none() && !flags.is_given("js");
        if !self.is_stand_in() && nothing_said {
            options.jetstream.enabled = true;
        }
        if self.is_stand_in() && options.jetstream.store_dir.is_none() {
            // The reference keeps data in the temporary folder unless told otherwise.
            let folder = std::env::temp_dir().join("nats").join("jetstream");
            options.jetstream.store_dir = Some(folder.to_string_lossy().into_owned());
        }
    }
}

/// Reads and checks a configuration file; the error holds all remarks, one per line.
pub(crate) fn file(path: &str) -> Result<(Options, Vec<Warning>), String> {
    read_file(path, false)
}

/// As [`file`]; a server that starts reads the accounts that its resolver keeps, too.
fn read_file(path: &str, reads_stored: bool) -> Result<(Options, Vec<Warning>), String> {
    let text = read(path)?;
    let environment = |name: &str| std::env::var(name).ok();
    let (mut options, mut warnings) =
        parse(&text, path, &read, &environment).map_err(|errors| errors.to_string())?;
    check_tls_files(path, &options)?;
    if reads_stored && let Resolver::Full(resolver) = &options.operator.resolver {
        options.operator.stored = millrace_host::token_files::read(&resolver.directory)?;
    }
    let inactive = millrace_auth::add_operator_accounts(&mut options)
        .map_err(|reason| format!("{path}: {reason}"))?;
    warnings.extend(inactive.into_iter().map(|message| Warning {
        file: path.to_owned(),
        position: None,
        message,
    }));
    Ok((options, warnings))
}

/// Files named in the tls block must be there already in a configuration test.
fn check_tls_files(path: &str, options: &Options) -> Result<(), String> {
    let Some(tls) = &options.tls else {
        return Ok(());
    };
    let pairs = tls.certificates.iter();
    for file in pairs.flat_map(|pair| [&pair.cert_file, &pair.key_file]) {
        let wrong = |reason| format!("{path}: error parsing X509 certificate/key pair: {reason}");
        read(file).map_err(wrong)?;
    }
    if let Some(file) = &tls.ca_file {
        read(file).map_err(|reason| format!("{path}: error parsing ca_file: {reason}"))?;
    }
    Ok(())
}

fn read(path: &str) -> Result<String, String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            // Without the error number, as the reference says it.
            let text = error.to_string();
            let reason = text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_lowercase();
            Err(format!("open {path}: {reason}"))
        }
    }
}

/// The options of a server that starts now.
pub(crate) fn options(program: &Program, flags: &Flags) -> Result<(Options, Vec<Warning>), String> {
    let (mut options, warnings) = match flags.text("c") {
        Some(path) => read_file(path, true)?,
        None => (Options::default(), Vec::new()),
    };
    flags.apply(&mut options)?;
    program.set_defaults(&mut options, flags);
    options.validate()?;
    Ok((options, warnings))
}

/// How the running server reads its file again; `None` without a file.
pub(crate) fn reload(program: &Program, flags: Flags, running: &Options) -> Option<Reload> {
    flags.text("c")?;
    let program = program.clone();
    let mut running = running.clone();
    Some(Box::new(move || {
        let (new, _) = options(&program, &flags)?;
        running.check_reload(&new)?;
        let changes = running.reload_lines(&new);
        running = new.clone();
        Ok(Reloaded {
            options: new,
            changes,
        })
    }))
}
