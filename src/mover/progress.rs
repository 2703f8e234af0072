//! A log line every few seconds, so that a long run can be told from a hanging one.

use std::{
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

const EVERY: Duration = Duration::from_secs(5);

/// Logs until it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    _stop: Sender<()>,
}

impl Progress {
    /// Calls `line` every few seconds.
    pub(super) fn start(line: impl Fn() + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        thread::spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                line();
            }
        });
        Self { _stop: stop }
    }
}
