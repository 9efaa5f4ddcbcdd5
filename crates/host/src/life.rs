//! Signals and what they set off: shutdown, lame duck mode, reload, a fresh log file.

use crate::event_loop::{EventLoop, Stage};
use crate::files;
use crate::limits::SHUTDOWN_WAIT_NS;
use crate::logger::Level;
use crate::run::Reloaded;
use crate::signals::Signal;
use crate::tls;
use crate::token_files;
use crate::websocket::Terms;
use millrace_clock::Now;
use millrace_core::CloseReason;
use millrace_node::{HostTask, StoreTokens};
use rustls::ServerConfig;
use std::sync::Arc;

impl EventLoop {
    pub(crate) fn signal(&mut self, now: Now, signal: Signal) {
        self.logger
            .info(&format!("Trapped \"{}\" signal", signal.name()));
        match signal {
            // Asked a second time, it does not finish what only makes the next start faster.
            Signal::Interrupt | Signal::Terminate
                if matches!(self.stage, Stage::Stopping { .. }) =>
            {
                self.stage = Stage::Stopping { until_ns: 0 };
            }
            // A supervisor that grows impatient must not cut lame duck mode short.
            Signal::Terminate if self.stage == Stage::LameDuck => {}
            Signal::Interrupt | Signal::Terminate => self.begin_shutdown(now),
            // A failure stands in the log.
            Signal::Hangup => drop(self.reload_options(now)),
            Signal::User1 => self.logger.reopen(),
            Signal::User2 => self.begin_lame_duck(now),
        }
    }

    pub(crate) fn begin_shutdown(&mut self, now: Now) {
        if matches!(self.stage, Stage::Stopping { .. }) {
            return;
        }
        self.logger.info("Initiating Shutdown...");
        self.close_listeners();
        self.stage = Stage::Stopping {
            until_ns: now.after_ns(SHUTDOWN_WAIT_NS),
        };
        self.node.shut_down(now);
        self.again = true;
    }

    fn close_listeners(&mut self) {
        self.listener = None;
        if let Some(door) = &mut self.websocket {
            door.listener = None;
        }
    }

    fn begin_lame_duck(&mut self, now: Now) {
        if !matches!(self.stage, Stage::Serving | Stage::Starting { .. }) {
            return;
        }
        self.logger
            .info("Entering lame duck mode, stop accepting new clients");
        self.close_listeners();
        self.stage = Stage::LameDuck;
        self.node.lame_duck(now);
        self.again = true;
    }

    /// Answers requests of the system account; some ask for a reload.
    pub(crate) fn answer_system_requests(&mut self, now: Now) {
        if self.is_storing_tokens || !self.node.has_system_requests(now) {
            return;
        }
        self.update_facts(now);
        while !self.is_storing_tokens
            && let Some(task) = self.node.next_system_task(now, &self.facts)
        {
            match task {
                HostTask::Reload(request) => {
                    let result = self.reload_options(now);
                    self.node.reloaded(now, &request, result);
                }
                HostTask::Store(task) => {
                    self.is_storing_tokens = true;
                    token_files::store_aside(task, self.way_in.clone());
                }
            }
        }
    }

    /// A thread has stored account tokens, or could not.
    pub(crate) fn tokens_stored(
        &mut self,
        now: Now,
        task: StoreTokens,
        result: Result<(), String>,
    ) {
        self.is_storing_tokens = false;
        self.node.tokens_stored(now, task, result);
        self.again = true;
    }

    fn reload_options(&mut self, now: Now) -> Result<(), String> {
        let result = self.reload.as_mut().map_or_else(
            || {
                Err(
                    "can only reload config when a file is provided using -c or --config"
                        .to_owned(),
                )
            },
            |reload| reload(),
        );
        let result = result.and_then(|reloaded| {
            let tls = reloaded.options.tls.as_ref();
            let tls = tls.map(tls::server_config).transpose()?;
            let terms = Terms::new(&reloaded.options)?;
            if let Some(sender) = &self.monitoring_tls
                && let Some(config) = tls::monitoring_config(&reloaded.options)?
            {
                sender.send_replace(config);
            }
            Ok((reloaded, tls, terms))
        });
        match result {
            Ok((reloaded, tls, terms)) => {
                if let (Some(door), Some(terms)) = (&mut self.websocket, terms) {
                    door.terms = terms;
                }
                self.take_over(now, reloaded, tls);
                Ok(())
            }
            Err(reason) => {
                let text = format!("Failed to reload server configuration: {reason}");
                self.logger.line(Level::Error, &text);
                Err(reason)
            }
        }
    }

    /// Ends connections of peers whose keys are no longer among the pinned ones.
    fn check_pins_again(&mut self, now: Now) {
        let options = Arc::clone(self.node.options());
        let unpinned = self.connections.iter().filter_map(|(key, connection)| {
            let session = connection.tls.as_ref()?;
            let tls = match &connection.websocket {
                Some(_) => options.websocket.tls.as_ref(),
                None => options.tls.as_ref(),
            };
            let reason = session.check_pins(tls?).err()?;
            session
                .is_established()
                .then(|| (key, format!("{} - {reason}", connection.log_name())))
        });
        for (key, text) in unpinned.collect::<Vec<_>>() {
            self.logger.line(Level::Error, &text);
            self.end(now, key, CloseReason::TlsHandshakeError);
        }
    }

    /// Goes on with options that were found to be possible ones.
    fn take_over(&mut self, now: Now, reloaded: Reloaded, tls: Option<Arc<ServerConfig>>) {
        let Reloaded { options, changes } = reloaded;
        self.tls = tls;
        // Where lines went before they say what changes.
        for change in &changes {
            self.logger.info(change);
        }
        if let Err(error) = self.logger.redirect(&options.log) {
            self.logger.line(Level::Error, &error);
        }
        for line in options.inactive.lines() {
            if !self.node.options().inactive.lines().contains(&line) {
                self.logger.line(Level::Warning, &line);
            }
        }
        let before = Arc::clone(self.node.options());
        let digest = options.config_digest.clone();
        self.node.apply_options(now, Arc::new(options));
        self.again = true;
        self.check_pins_again(now);
        let options = Arc::clone(self.node.options());
        if options.pid_file != before.pid_file
            && let Some(path) = &options.pid_file
            && let Err(error) = files::write_pid(path)
        {
            let text = format!("Could not write pidfile: {error}");
            self.logger.line(Level::Error, &text);
        }
        if options.ports_file_dir != before.ports_file_dir && self.stage == Stage::Serving {
            self.write_ports();
        }
        self.logger
            .info(&format!("Reloaded server configuration ({digest})"));
    }
}
