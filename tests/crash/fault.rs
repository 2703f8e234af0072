//! How a process is disturbed: killed at a moment or at a system call, or told there that the disk fails.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What happens to a process.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// SIGKILL after so long.
    KilledAfter(Duration),
    /// SIGKILL at a thread's n-th call of that name.
    KilledAt(&'static str, u32),
    /// A thread's n-th call of that name fails.
    FailsAt(&'static str, u32, &'static str),
}

/// A fault that was prepared for a process.
pub struct Prepared {
    fault: Fault,
    log: PathBuf,
}

impl Prepared {
    /// Its traces go to a file of `folder`.
    pub fn new(fault: Fault, folder: &Path) -> Self {
        let log = folder.join("calls");
        let _ = fs::remove_file(&log);
        Self { fault, log }
    }

    /// The program, under strace where the fault is one of its calls. The process that is started is the program itself.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let (call, number, what) = match self.fault {
            Fault::KilledAfter(_) => return Command::new(program),
            Fault::KilledAt(call, number) => (call, number, "signal=KILL".to_owned()),
            Fault::FailsAt(call, number, error) => (call, number, format!("error={error}")),
        };
        let mut command = Command::new("strace");
        command
            .args(["-D", "-f", "-q", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{what}:when={number}"), "-o"])
            .arg(&self.log)
            .arg("--")
            .arg(program);
        command
    }

    /// When to kill the process, if by time.
    pub fn moment(&self) -> Option<Duration> {
        match self.fault {
            Fault::KilledAfter(moment) => Some(moment),
            _ => None,
        }
    }

    /// Whether a call was reached.
    pub fn was_reached(&self) -> bool {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.contains("(INJECTED)") || log.contains("killed by SIGKILL")
    }
}
