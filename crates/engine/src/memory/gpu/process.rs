//! The processes that hold memory of NVIDIA GPUs: those of an engine, and those of other programs. What they hold can be
//! preempted, or cannot.

use mcpctl_supervisor::{MARK_VARIABLE, process_group};

use super::{Gpu, ends, mebibytes};
use crate::memory::bytes::{gib, sum};

/// Memory that one process holds of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuProcess {
    /// The `uuid` of the GPU.
    gpu: String,
    pid: u32,
    /// The beginning of its command line, or the title that it gave itself.
    command: String,
    pub(crate) bytes: u64,
}

impl GpuProcess {
    /// `GPU-5f0c…, 1184, /opt/venv/bin/python3, 138134`: mebibytes. `[N/A]` where the driver reports none, as in WSL.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (first, [bytes]) = ends(line)?;
        let mut fields = first.splitn(3, ',').map(str::trim);
        let (gpu, pid, command) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Self {
            gpu: gpu.to_owned(),
            pid: pid.parse().ok()?,
            command: command.to_owned(),
            bytes: mebibytes(bytes)?,
        })
    }

    /// Whether this machine has this very process: in a container the driver may give the number that it has outside.
    fn is_here(&self) -> bool {
        process_group::command_line(self.pid).is_some_and(|command| command.starts_with(&self.command))
    }

    /// Its program without the path and the arguments. Any user may choose a title, so only the beginning of it is shown, and
    /// no control character.
    fn program(&self) -> String {
        const MAX_CHARS: usize = 32;
        let word = self.command.split_whitespace().next().unwrap_or_default();
        let name = word.rsplit('/').next().unwrap_or(word);
        name.chars().filter(|c| !c.is_control() && *c != '`').take(MAX_CHARS).collect()
    }
}

/// The mark by which an agent recognizes the processes of an engine; `None` for all other processes.
fn mark(pid: u32) -> Option<Vec<u8>> {
    process_group::variable(pid, MARK_VARIABLE)
}

/// The bytes that an engine with this leader holds of all GPUs.
pub(crate) fn held_by(leader: u32, processes: &[GpuProcess]) -> u64 {
    let engines_mark = mark(leader);
    let has_mark = |pid| engines_mark.is_some() && mark(pid) == engines_mark;
    let is_of_engine = |pid| process_group::of(pid) == Some(leader) || has_mark(pid);
    let held = processes.iter().filter(|process| is_of_engine(process.pid));
    sum(held.map(|process| process.bytes))
}

/// The programs that hold memory of GPUs and that no agent of this user started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OtherPrograms(Vec<GpuProcess>);

impl OtherPrograms {
    /// Those among these processes, the largest first.
    pub(super) fn among(mut processes: Vec<GpuProcess>) -> Self {
        processes.retain(|process| process.is_here() && mark(process.pid).is_none());
        processes.sort_by_key(|process| std::cmp::Reverse(process.bytes));
        Self(processes)
    }

    /// The bytes that they hold of a GPU.
    pub(crate) fn hold_of(&self, gpu: &Gpu) -> u64 {
        sum(self.of(gpu).map(|process| process.bytes))
    }

    fn of(&self, gpu: &Gpu) -> impl Iterator<Item = &GpuProcess> {
        self.0.iter().filter(|process| gpu.uuid.as_deref() == Some(process.gpu.as_str()))
    }

    /// The largest of them on these GPUs, such as "`python3` (pid 1184) holds 134.8 GiB"; `None` where there are none.
    pub fn describe<'a>(&self, gpus: impl IntoIterator<Item = &'a Gpu>) -> Option<String> {
        const MAX_SHOWN: usize = 3;
        let mut largest: Vec<&GpuProcess> = gpus.into_iter().flat_map(|gpu| self.of(gpu)).collect();
        largest.sort_by_key(|process| std::cmp::Reverse(process.bytes));
        let shown = largest.iter().take(MAX_SHOWN).map(|process| {
            format!("`{}` (pid {}) holds {}", process.program(), process.pid, gib(process.bytes))
        });
        Some(shown.collect::<Vec<_>>().join(", ")).filter(|shown| !shown.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt as _, process::Child};

    use super::*;
    use crate::memory::gpu::{MIB, Maker};

    /// Lines of driver 580.159.04 with an H200: llama-server with Vulkan (the type C+G of `nvidia-smi`), and PyTorch.
    const LINES: &str = "GPU-aa-bb, 843, /tmp/w/llama/llama-server, 7916\nGPU-aa-bb, 908, /opt/torch/.venv/bin/python3, 71676";

    fn gpu(uuid: &str) -> Gpu {
        let (name, total, free) = (String::new(), 0, 0);
        Gpu { index: 0, uuid: Some(uuid.to_owned()), maker: Maker::Nvidia, name, total, free }
    }

    struct Sleeper(Child);

    impl Sleeper {
        fn start(environment: &[(&str, &str)]) -> Self {
            let mut sleep = std::process::Command::new("sleep");
            let child = sleep.arg("60").envs(environment.iter().copied()).process_group(0).spawn().unwrap();
            // Until exec, the child is a copy of this test.
            while process_group::command_line(child.id()).as_deref() != Some("sleep 60") {
                std::thread::yield_now();
            }
            Self(child)
        }

        fn holds(&self, command: &str, mebibytes: u64) -> GpuProcess {
            let line = format!("GPU-aa, {}, {command}, {mebibytes}", self.0.id());
            GpuProcess::parse(&line).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn lines_of_the_driver_are_read() {
        let read: Vec<_> = LINES.lines().map(|line| GpuProcess::parse(line).unwrap()).collect();
        let shown: Vec<_> = read.iter().map(|read| (read.pid, read.program(), read.bytes / MIB)).collect();
        assert_eq!(shown, [(843, "llama-server".to_owned(), 7916), (908, "python3".to_owned(), 71676)]);
        for none in ["GPU-aa, 7, python3, [N/A]", "GPU-aa, [N/A], [N/A], 5", "No running processes found", ""]
        {
            assert_eq!(GpuProcess::parse(none), None, "{none}");
        }
    }

    #[test]
    fn title_of_a_process_is_shown_safely() {
        let of = |command: &str| {
            let process = GpuProcess { gpu: String::new(), pid: 1, command: command.to_owned(), bytes: 0 };
            process.program()
        };
        assert_eq!(of("VLLM::EngineCore"), "VLLM::EngineCore");
        assert_eq!(of("/usr/bin/python3 -m train --secret=x"), "python3");
        assert_eq!(of("a\u{1b}[31m`b"), "a[31mb");
        assert_eq!(of(&"x".repeat(99)).len(), 32);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn engines_and_processes_that_are_not_here_are_no_other_programs() {
        let other = Sleeper::start(&[]);
        let engine = Sleeper::start(&[(MARK_VARIABLE, "m1")]);
        let gone = GpuProcess { pid: u32::MAX, ..other.holds("sleep", 9) };
        let elsewhere = other.holds("python3", 9);
        let all = vec![engine.holds("sleep", 7), other.holds("sleep", 2048), gone, elsewhere];
        let found = OtherPrograms::among(all.clone());
        assert_eq!(found.hold_of(&gpu("GPU-aa")), 2048 * MIB);
        let expected = format!("`sleep` (pid {}) holds 2.0 GiB", other.0.id());
        assert_eq!(found.describe(&[gpu("GPU-aa")]), Some(expected));
        assert_eq!(found.describe(&[gpu("GPU-bb")]), None);

        let stray = Sleeper::start(&[(MARK_VARIABLE, "m1")]);
        let held = [all, vec![stray.holds("sleep", 5)]].concat();
        assert_eq!(held_by(engine.0.id(), &held), 12 * MIB, "its group, and what left it");
    }
}
