//! The memory of this machine's GPUs, as their drivers report it. Unknown where there is no driver.

mod process;
mod visible;

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

pub use process::OtherPrograms;
pub(crate) use process::{GpuProcess, held_by};
pub(crate) use visible::Visible;

/// Memory of one GPU, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its number among those of its driver.
    pub index: u32,
    /// Its globally unique name, `GPU-…`, where the driver reports one.
    pub uuid: Option<String>,
    pub(crate) maker: Maker,
    /// The driver's name for it.
    pub name: String,
    /// All that processes can hold. The driver keeps some for itself: 616 MiB of the 143771 MiB of an H200 that `nvidia-smi`
    /// names, and neither CUDA nor vLLM's share counts those.
    pub total: u64,
    /// Memory that no process holds.
    pub free: u64,
}

/// The maker of the driver, which decides by which variables an engine sees a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    Nvidia,
    Amd,
}

/// The timeout of a driver; a sleeping GPU wakes to respond.
const DRIVER_TIMEOUT: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;
/// Minimum memory of a card, bytes. Integrated graphics reserve at most 2 GiB of main memory by default, and hold no model:
/// if they counted as a GPU, a server that runs on the CPU would get no memory.
const MIN_CARD_BYTES: u64 = 3 << 30;

/// How drivers are asked.
#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    /// NVIDIA's own program, which comes with the driver.
    pub(crate) nvidia_smi: PathBuf,
    /// The kernel's directory of graphics cards, where amdgpu reports its memory.
    pub(crate) drm: PathBuf,
}

impl Default for Drivers {
    fn default() -> Self {
        Self { nvidia_smi: "nvidia-smi".into(), drm: "/sys/class/drm".into() }
    }
}

impl Drivers {
    /// Every GPU whose driver can be asked; empty where there is none.
    pub(crate) async fn gpus(&self) -> Vec<Gpu> {
        let nvidia = self.nvidia().await;
        if nvidia.is_empty() { self.amd() } else { nvidia }
    }

    async fn nvidia(&self) -> Vec<Gpu> {
        let lines = self.ask_nvidia("--query-gpu=index,uuid,name,memory.used,memory.free").await;
        lines.unwrap_or_default().lines().filter_map(nvidia_line).collect()
    }

    /// The processes that hold memory of GPUs, those of CUDA and of Vulkan; empty where the driver reports none, as in most
    /// containers.
    pub(crate) async fn processes(&self) -> Vec<GpuProcess> {
        let lines = self.ask_nvidia("--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory").await;
        lines.unwrap_or_default().lines().filter_map(GpuProcess::parse).collect()
    }

    /// The programs among those processes that are no engines.
    pub(crate) async fn other_programs(&self) -> OtherPrograms {
        OtherPrograms::among(self.processes().await)
    }

    async fn ask_nvidia(&self, query: &str) -> Option<String> {
        let asked = Command::new(&self.nvidia_smi)
            .args([query, "--format=csv,noheader,nounits"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DRIVER_TIMEOUT, asked).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn amd(&self) -> Vec<Gpu> {
        let Ok(cards) = std::fs::read_dir(&self.drm) else { return Vec::new() };
        let mut found: Vec<(u32, Gpu)> = cards
            .flatten()
            .filter_map(|card| {
                let name = card.file_name().into_string().ok()?;
                // Connectors are beside the cards, as `card0-DP-1`.
                let number = name.strip_prefix("card")?.parse().ok()?;
                let text = |file: &str| std::fs::read_to_string(card.path().join("device").join(file)).ok();
                let bytes = |file: &str| text(file)?.trim().parse::<u64>().ok();
                let (total, used) = (bytes("mem_info_vram_total")?, bytes("mem_info_vram_used")?);
                let gpu = Gpu {
                    index: 0,
                    uuid: text("unique_id").map(|id| format!("GPU-{}", id.trim())),
                    maker: Maker::Amd,
                    name: format!("amdgpu {name}"),
                    total,
                    free: total.saturating_sub(used),
                };
                Some((number, gpu))
            })
            .collect();
        found.sort_by_key(|(number, _)| *number);
        // ROCm numbers all of its own cards, small ones included.
        let numbered = (0..).zip(found).map(|(index, (_, gpu))| Gpu { index, ..gpu });
        numbered.filter(|gpu| gpu.total >= MIN_CARD_BYTES).collect()
    }
}

/// `0, GPU-5f0c…, NVIDIA H200, 7952, 135205`: mebibytes. `[N/A]` where a card reports none.
fn nvidia_line(line: &str) -> Option<Gpu> {
    let (first, [used, free]) = ends(line)?;
    let mut fields = first.splitn(3, ',').map(str::trim);
    let (index, uuid, name) = (fields.next()?, fields.next()?, fields.next()?);
    let (used, free) = (mebibytes(used)?, mebibytes(free)?);
    Some(Gpu {
        index: index.parse().ok()?,
        uuid: Some(uuid.to_owned()),
        maker: Maker::Nvidia,
        name: name.to_owned(),
        total: used.saturating_add(free),
        free,
    })
}

/// The last fields of a line, and what is before them: a name in the middle may have commas.
fn ends<const N: usize>(line: &str) -> Option<(&str, [&str; N])> {
    let mut rest = line;
    let mut fields = [""; N];
    for field in fields.iter_mut().rev() {
        let (before, last) = rest.rsplit_once(',')?;
        (rest, *field) = (before, last.trim());
    }
    Some((rest, fields))
}

fn mebibytes(text: &str) -> Option<u64> {
    text.parse::<u64>().ok()?.checked_mul(MIB)
}

/// The GPUs that this machine's drivers report, for diagnosis.
pub async fn gpus() -> Vec<Gpu> {
    Drivers::default().gpus().await
}

/// The programs that hold memory of GPUs and are no engines, for diagnosis.
pub async fn other_programs() -> OtherPrograms {
    Drivers::default().other_programs().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Drivers that scripts and files imitate.
    fn drivers(dir: &std::path::Path, script: &str) -> Drivers {
        let nvidia_smi = dir.join("nvidia-smi");
        std::fs::write(&nvidia_smi, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&nvidia_smi, std::fs::Permissions::from_mode(0o755)).unwrap();
        Drivers { nvidia_smi, drm: dir.join("drm") }
    }

    /// Values of driver 580.159.04 with an H200, on which llama-server held 7920 MiB; the second line is of a card whose
    /// memory is the machine's own.
    #[tokio::test]
    async fn gpu_has_the_memory_that_processes_can_hold() {
        let dir = tempfile::tempdir().unwrap();
        let script = "case $1 in --query-gpu=index,uuid,name,memory.used,memory.free) ;; *) exit 2;; esac
            echo '0, GPU-aa-bb, NVIDIA H200, 7952, 135205'; echo '1, GPU-cc-dd, NVIDIA GB10, [N/A], [N/A]'";
        let gpus = drivers(dir.path(), script).gpus().await;
        let card = Gpu {
            index: 0,
            uuid: Some("GPU-aa-bb".to_owned()),
            maker: Maker::Nvidia,
            name: "NVIDIA H200".to_owned(),
            total: 143_157 * MIB,
            free: 135_205 * MIB,
        };
        assert_eq!(gpus, [card]);
    }

    #[test]
    fn name_of_a_card_may_have_commas() {
        let gpu = nvidia_line("0, GPU-aa, Card, Max-Q, 0, 24564").unwrap();
        assert_eq!((gpu.name.as_str(), gpu.total), ("Card, Max-Q", 24564 * MIB));
        assert_eq!(nvidia_line("0, GPU-aa, 24564"), None);
    }

    #[tokio::test]
    async fn without_a_driver_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(drivers(dir.path(), "echo 'no devices were found'; exit 6").gpus().await, []);
        let nowhere = Drivers { nvidia_smi: dir.path().join("none"), drm: dir.path().join("none") };
        assert_eq!(nowhere.gpus().await, []);
    }

    /// A card as the kernel shows it; mebibytes.
    fn card(drivers: &Drivers, name: &str, total: u64, used: u64) {
        let device = drivers.drm.join(name).join("device");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("mem_info_vram_total"), format!("{}\n", total * MIB)).unwrap();
        std::fs::write(device.join("mem_info_vram_used"), format!("{}\n", used * MIB)).unwrap();
    }

    #[tokio::test]
    async fn the_kernel_tells_of_amd_cards_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let drivers = drivers(dir.path(), "exit 9");
        card(&drivers, "card10", 8000, 1000);
        card(&drivers, "card2", 16000, 0);
        card(&drivers, "card2-DP-1", 9000, 0);
        std::fs::write(drivers.drm.join("card2/device/unique_id"), "a1b2\n").unwrap();
        let found: Vec<_> =
            drivers.gpus().await.into_iter().map(|gpu| (gpu.index, gpu.uuid, gpu.name, gpu.free)).collect();
        let expected = [
            (0, Some("GPU-a1b2".to_owned()), "amdgpu card2".to_owned(), 16000 * MIB),
            (1, None, "amdgpu card10".to_owned(), 7000 * MIB),
        ];
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn what_a_processor_sets_aside_for_its_own_graphics_is_no_gpu() {
        let dir = tempfile::tempdir().unwrap();
        let drivers = drivers(dir.path(), "exit 9");
        card(&drivers, "card0", 512, 100);
        assert_eq!(drivers.gpus().await, []);
        card(&drivers, "card1", 8000, 0);
        let found: Vec<_> = drivers.gpus().await.into_iter().map(|gpu| (gpu.index, gpu.total)).collect();
        assert_eq!(found, [(1, 8000 * MIB)], "it is counted all the same, as ROCm counts it");
    }
}
