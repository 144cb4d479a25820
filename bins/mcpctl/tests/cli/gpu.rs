//! What people see of the memory of a GPU, with a scripted driver: what engines hold of it, and other programs.

use std::{
    ffi::OsString,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command},
};

use mcpctl_testkit::{
    daemons::{McplocalOptions, eventually},
    deployment::Deployment,
};
use serde_json::Value;

use crate::shell::{Shell, beside};

/// Writes the driver's program into a directory. It reports an H200, of which `used` MiB are in use, and the lines of the file
/// `processes`; both are values of driver 580.159.04.
fn driver(dir: &Path, used: u64) {
    let program = dir.join("nvidia-smi");
    let free = 143_157 - used;
    let script = format!(
        "#!/bin/sh\ncase $1 in --query-gpu=*) echo '0, GPU-aa, NVIDIA H200, {used}, {free}';; *) cat {}/processes;; esac\n",
        dir.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("processes"), "").unwrap();
}

fn path(dir: &Path) -> OsString {
    let mut path = dir.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

#[tokio::test]
async fn status_shows_what_an_engine_holds_and_one_that_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    driver(dir.path(), 7952);
    let options = McplocalOptions { env: vec![("PATH", path(dir.path()))], ..McplocalOptions::default() };
    let deployment = Deployment::builder().engine("desk", "", &[]).options(options).start().await;
    let shell = beside(&deployment.agent);
    let gpu_bytes = async || deployment.engine("desk").await["gpuBytes"].clone();
    assert_eq!(gpu_bytes().await, Value::Null, "it does not run");

    deployment.start_engine("desk").await;
    let pid = deployment.engine("desk").await["pid"].clone();
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let program = words.split('\0').next().unwrap();
    std::fs::write(dir.path().join("processes"), format!("GPU-aa, {pid}, {program}, 7920\n")).unwrap();
    eventually("the driver is asked", async || (gpu_bytes().await == 7920_u64 << 20).then_some(())).await;
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(status.lines().any(|line| line.starts_with("desk") && line.contains("  7920 MiB  ")), "{status}");
    assert!(!status.contains("on the CPU"), "{status}");

    driver(dir.path(), 0);
    eventually("it holds nothing", async || (gpu_bytes().await == 0).then_some(())).await;
    let status = shell.run(&["local", "status"]).await.succeeded();
    assert!(
        status.contains("\n`desk` runs on the CPU: it holds no memory of the machine's GPU\nhint: "),
        "{status}"
    );
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn doctor_names_the_programs_that_leave_an_engine_too_little() {
    let dir = tempfile::tempdir().unwrap();
    driver(dir.path(), 138_144);
    let program = Program(Command::new("sleep").arg("600").spawn().unwrap());
    let pid = program.0.id();
    std::fs::write(dir.path().join("processes"), format!("GPU-aa, {pid}, sleep, 138134\n")).unwrap();
    let config = dir.path().join("mcplocal.yaml");
    let engine = format!("type: vllm-managed, command: /bin/sh, model: {}", dir.path().display());
    let providers = format!(
        "  - {{name: small, {engine}, memory: 4GiB}}\n  - {{name: large, {engine}, memory: 10GiB}}\n  - {{name: half, {engine}, gpuMemoryUtilization: 0.5}}\n"
    );
    std::fs::write(&config, format!("server: http://127.0.0.1:9\nproviders:\n{providers}")).unwrap();
    let mut shell = Shell::new();
    for name in ["HOME", "XDG_STATE_HOME"] {
        shell.env.push((name, dir.path().display().to_string()));
    }
    shell.env.push(("PATH", path(dir.path()).into_string().unwrap()));
    let findings = async || {
        let output = shell.run(&["local", "doctor", "--config", config.to_str().unwrap()]).await;
        output.stdout
    };
    // Until exec, the program is a copy of this test.
    let found = eventually("the program is found", async || {
        Some(findings().await).filter(|found| found.contains("(pid "))
    })
    .await;
    let holder = format!("`sleep` (pid {pid}) holds 134.8 GiB");
    let has = |line: &str| assert!(found.lines().any(|found| found == line), "`{line}` is not in\n{found}");
    has("ok   provider small: needs 4.0 GiB");
    for (name, need) in [("large", "10.0"), ("half", "69.9")] {
        has(&format!(
            "warn provider {name}: it needs {need} GiB of GPU memory, and 4.8 GiB of 139.8 GiB are free; {holder}"
        ));
    }
    has("     hint: end what else uses the GPU, or give the engine less memory");
    has(&format!("ok   gpu: NVIDIA H200: 4.9 GiB free of 139.8 GiB, {holder}"));

    driver(dir.path(), 0);
    let found = findings().await;
    assert!(found.contains("ok   provider large: needs 10.0 GiB"), "{found}");
    assert!(found.contains("ok   gpu: NVIDIA H200: 139.8 GiB free of 139.8 GiB\n"), "{found}");
}
