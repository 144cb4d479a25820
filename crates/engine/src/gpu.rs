//! The memory of this machine's GPUs, as their drivers tell it. Where there is no driver, nothing is known, and nobody
//! guesses.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

/// Memory of one GPU, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// What the driver calls it.
    pub name: String,
    /// All there is.
    pub total: u64,
    /// What nobody holds.
    pub free: u64,
}

/// How long a driver may take to answer; a GPU that sleeps wakes for the question.
const PATIENCE: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

/// Where drivers are asked.
#[derive(Debug, Clone)]
pub(crate) struct Drivers {
    /// NVIDIA's own program, which comes with the driver.
    nvidia_smi: PathBuf,
    /// The kernel's directory of graphics cards, where amdgpu tells its memory.
    drm: PathBuf,
}

impl Default for Drivers {
    fn default() -> Self {
        Self { nvidia_smi: "nvidia-smi".into(), drm: "/sys/class/drm".into() }
    }
}

impl Drivers {
    /// Drivers that are played.
    #[cfg(test)]
    pub(crate) fn at(nvidia_smi: PathBuf, drm: PathBuf) -> Self {
        Self { nvidia_smi, drm }
    }

    /// Every GPU whose driver can be asked; empty where there is none.
    pub(crate) async fn gpus(&self) -> Vec<Gpu> {
        let nvidia = self.nvidia().await;
        if nvidia.is_empty() { self.amd() } else { nvidia }
    }

    async fn nvidia(&self) -> Vec<Gpu> {
        let asked = Command::new(&self.nvidia_smi)
            .args(["--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(output)) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).lines().filter_map(nvidia_line).collect()
            }
            _ => Vec::new(),
        }
    }

    fn amd(&self) -> Vec<Gpu> {
        let Ok(cards) = std::fs::read_dir(&self.drm) else { return Vec::new() };
        let mut gpus: Vec<Gpu> = cards
            .flatten()
            .filter_map(|card| {
                let name = card.file_name().into_string().ok()?;
                // Connectors lie beside the cards, as `card0-DP-1`.
                name.strip_prefix("card")?.parse::<u32>().ok()?;
                let bytes = |file: &str| {
                    let text = std::fs::read_to_string(card.path().join("device").join(file)).ok()?;
                    text.trim().parse::<u64>().ok()
                };
                let (total, used) = (bytes("mem_info_vram_total")?, bytes("mem_info_vram_used")?);
                Some(Gpu { name: format!("amdgpu {name}"), total, free: total.saturating_sub(used) })
            })
            .collect();
        gpus.sort_by(|a, b| a.name.cmp(&b.name));
        gpus
    }
}

/// `NVIDIA RTX 4090, 24564, 23012`: mebibytes. A card that cannot tell says `[N/A]`.
fn nvidia_line(line: &str) -> Option<Gpu> {
    let mut fields = line.rsplitn(3, ',').map(str::trim);
    let (free, total, name) = (fields.next()?, fields.next()?, fields.next()?);
    let mebibytes = |text: &str| text.parse::<u64>().ok().map(|count| count * MIB);
    Some(Gpu { name: name.to_owned(), total: mebibytes(total)?, free: mebibytes(free)? })
}

/// What the drivers of this machine tell; for people who look for what is wrong.
pub async fn gpus() -> Vec<Gpu> {
    Drivers::default().gpus().await
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Drivers that are played by files.
    fn drivers(dir: &std::path::Path, script: &str) -> Drivers {
        let nvidia_smi = dir.join("nvidia-smi");
        std::fs::write(&nvidia_smi, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&nvidia_smi, std::fs::Permissions::from_mode(0o755)).unwrap();
        Drivers { nvidia_smi, drm: dir.join("drm") }
    }

    #[tokio::test]
    async fn nvidia_tells_mebibytes_and_what_it_cannot_tell_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let said = "echo 'NVIDIA GeForce RTX 4090, 24564, 23012'; echo 'NVIDIA GB10, [N/A], [N/A]'";
        let gpus = drivers(dir.path(), said).gpus().await;
        let name = "NVIDIA GeForce RTX 4090".to_owned();
        assert_eq!(gpus, [Gpu { name, total: 24564 * MIB, free: 23012 * MIB }]);
    }

    #[tokio::test]
    async fn without_a_driver_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(drivers(dir.path(), "echo 'no devices were found'; exit 6").gpus().await, []);
        let nowhere = Drivers { nvidia_smi: dir.path().join("none"), drm: dir.path().join("none") };
        assert_eq!(nowhere.gpus().await, []);
    }

    #[tokio::test]
    async fn the_kernel_tells_of_amd_cards() {
        let dir = tempfile::tempdir().unwrap();
        let drivers = drivers(dir.path(), "exit 9");
        for (card, total, used) in
            [("card1", "8000", "1000"), ("card0", "16000", "0"), ("card0-DP-1", "1", "0")]
        {
            let device = drivers.drm.join(card).join("device");
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("mem_info_vram_total"), format!("{total}\n")).unwrap();
            std::fs::write(device.join("mem_info_vram_used"), format!("{used}\n")).unwrap();
        }
        let found: Vec<_> =
            drivers.gpus().await.into_iter().map(|gpu| (gpu.name, gpu.total, gpu.free)).collect();
        assert_eq!(
            found,
            [("amdgpu card0".to_owned(), 16000, 16000), ("amdgpu card1".to_owned(), 8000, 7000)]
        );
    }
}
