//! Ends the programs that a killed agent left running.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;

use crate::{Residue, record::Record};

const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long to wait after each signal. Shorter than for a program in service: a leftover one serves no request.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A program that a killed agent left running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The name under which it was started.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// Whether it has ended now; if not, its record stays for the next sweep.
    pub gone: bool,
}

/// Ends what a killed agent left running, and removes its records from `directory`. Call it before any program is
/// started, and with no other agent on the same directory. `R` removes what killed processes leave behind.
pub async fn sweep<R: Residue>(directory: &Path) -> Vec<Leftover> {
    let mut leftovers = Vec::new();
    let Ok(files) = std::fs::read_dir(directory) else {
        return leftovers;
    };
    for path in
        files.flatten().map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let mut gone = true;
        if let Some(record) = Record::read(&path).filter(Record::is_alive) {
            gone = end::<R>(&record).await;
            leftovers.push(Leftover { name: record.name, pid: record.pid, gone });
        }
        if gone {
            let _ = std::fs::remove_file(&path);
        }
    }
    leftovers
}

/// Compares the identity again before each signal: the group may have ended and its id may be another's by now.
async fn end<R: Residue>(record: &Record) -> bool {
    let mut residue = R::default();
    for signal in [Signal::SIGTERM, Signal::SIGTERM, Signal::SIGKILL] {
        record.signal(signal, &mut residue);
        let gone = async {
            while record.is_alive() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        if tokio::time::timeout(SIGNAL_TIMEOUT, gone).await.is_ok() {
            residue.remove();
            return true;
        }
    }
    false
}
