//! The systems that are measured, each with one core for itself.

mod ours;
mod peers;

use std::{
    any::Any,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{load::Destination, placement};

/// A system, as it is chosen on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum SystemName {
    /// Nothing between the load and the model server
    Direct,
    /// A minimal pass-through on hyper
    PassThrough,
    /// mcpd, with everything on
    Mcpd,
    /// mcplocal in front of an mcpd, whose own costs do not count
    Mcplocal,
    /// nginx, where it is installed
    Nginx,
    /// `LiteLLM`'s proxy, where it is installed
    Litellm,
    /// Portkey's gateway, where it is installed
    Portkey,
}

impl SystemName {
    /// Whether it is one of our daemons, which have targets.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Mcpd | Self::Mcplocal)
    }

    /// What the tables call it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Direct => "nothing between",
            Self::PassThrough => "pass-through",
            Self::Mcpd => "mcpd",
            Self::Mcplocal => "mcplocal",
            Self::Nginx => "nginx",
            Self::Litellm => "LiteLLM",
            Self::Portkey => "Portkey",
        }
    }
}

/// A running system; it is stopped when it is dropped.
pub struct System {
    pub name: SystemName,
    pub destination: Destination,
    /// The process whose tree is measured; `None` where there is none.
    pub pid: Option<u32>,
    /// From its start until it answered, where that was measured.
    pub started_in: Option<Duration>,
    _parts: Box<dyn Any>,
}

/// The chosen systems, and the pass-through in any case.
pub fn chosen(names: &[SystemName]) -> Vec<SystemName> {
    use SystemName::{Direct, Litellm, Mcpd, Mcplocal, Nginx, PassThrough, Portkey};
    let all = [Direct, PassThrough, Mcpd, Mcplocal, Nginx, Litellm, Portkey];
    let is_chosen =
        |name: &SystemName| names.is_empty() || matches!(name, Direct | PassThrough) || names.contains(name);
    all.into_iter().filter(is_chosen).collect()
}

/// Starts a system before a model server; `None` where it is not installed.
pub async fn start(name: SystemName, upstream: SocketAddr) -> Option<System> {
    match name {
        SystemName::Direct => {
            let destination = Destination { address: upstream, headers: Vec::new() };
            Some(System { name, destination, pid: None, started_in: None, _parts: Box::new(()) })
        }
        SystemName::PassThrough => Some(pass_through(upstream).await),
        SystemName::Mcpd => Some(ours::mcpd(upstream).await),
        SystemName::Mcplocal => Some(ours::mcplocal(upstream).await),
        SystemName::Nginx => peers::nginx(upstream).await,
        SystemName::Litellm => peers::litellm(upstream).await,
        SystemName::Portkey => peers::portkey(upstream).await,
    }
}

async fn pass_through(upstream: SocketAddr) -> System {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("--pass-through").arg(upstream.to_string()).stdout(Stdio::piped());
    let mut process =
        Process(placement::on_core(placement::SYSTEM, async { command.spawn().unwrap() }).await);
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().parse().unwrap();
    System {
        name: SystemName::PassThrough,
        destination: Destination { address, headers: Vec::new() },
        pid: Some(process.0.id()),
        started_in: None,
        _parts: Box::new(process),
    }
}

/// How long a process may take to end before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// A child process that is ended when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Not killed at once, because workers of a killed master go on.
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let began = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && began.elapsed() < END_TIMEOUT {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
