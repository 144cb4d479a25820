//! A missing program, model or journal makes local providers unavailable, and mcpd stays reachable.

use std::{fs, path::Path};

use mcpctl_testkit::{
    daemons::{eventually, program},
    deployment::Deployment,
    response::content,
};
use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

/// A deployment whose local provider has its program and its model on a disk that is empty at first.
struct EmptyDisk {
    deployment: Deployment,
    disk: TempDir,
}

/// The item of `providers` for a model on the disk.
fn managed(disk: &Path, model: &str) -> String {
    format!(
        "  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: claude\n",
        disk.join("server").display(),
        disk.join(model).display(),
    )
}

impl EmptyDisk {
    /// `more` are lines of the provider.
    async fn start(more: impl Fn(&Path) -> String) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let item = managed(disk.path(), "model.gguf") + &more(disk.path());
        let deployment = Deployment::builder().providers(&item).signed_in().start().await;
        Self { deployment, disk }
    }

    fn put_program(&self) {
        std::os::unix::fs::symlink(program("examples/fake_engine"), self.disk.path().join("server")).unwrap();
    }

    fn put(&self, file: &str) {
        fs::write(self.disk.path().join(file), "").unwrap();
    }

    async fn unavailable(&self) -> Value {
        self.deployment.agent.status().await["providers"][0]["unavailable"].clone()
    }

    /// Fails unless a chat gets the primary's own error, with the reason why no local provider served it.
    async fn is_unavailable_because(&self, reason: &str) {
        let answer = self.deployment.chat().await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{reason}");
        assert_eq!(answer.headers()["mcpctl-no-failover"], "local_unavailable", "{reason}");
        let status = self.unavailable().await;
        assert!(status["reason"].as_str().unwrap().contains(reason), "{status}");
        assert!(status["hint"].is_string(), "{status}");
        let journal = self.deployment.agent.journal();
        let last = journal.last().unwrap();
        assert_eq!(last["outcome"], "failed");
        assert!(last["reason"].as_str().unwrap().contains(reason), "{last}");
        let local = self.deployment.chat_locally("desk").await;
        let local: Value = local.json().await.unwrap();
        assert_eq!(local["error"]["code"], "local_provider_unavailable", "{local}");
        assert!(local["error"]["message"].as_str().unwrap().contains(reason), "{local}");
    }

    async fn is_served_locally(&self) {
        let answer = self.deployment.chat().await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
        assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
        assert_eq!(self.unavailable().await, Value::Null);
    }
}

#[tokio::test]
async fn missing_program_and_model_are_used_once_they_exist() {
    let disk = EmptyDisk::start(|_| String::new()).await;
    assert_eq!(content(disk.deployment.chat().await).await, "from the primary");
    eventually("the reason is logged with its place", async || {
        let log = disk.deployment.agent.log();
        (log.contains("a local provider is unavailable") && log.contains("mcplocal.yaml:3:")).then_some(())
    })
    .await;

    disk.deployment.overload_provider();
    disk.is_unavailable_because("server` is not there").await;
    disk.put_program();
    disk.is_unavailable_because("model.gguf` does not exist").await;
    disk.put("model.gguf");
    disk.is_served_locally().await;
}

#[tokio::test]
async fn missing_file_of_an_argument_is_used_once_it_exists() {
    let mmproj = |disk: &Path| format!("    extraArgs: [--mmproj, {}]\n", disk.join("mmproj.gguf").display());
    let disk = EmptyDisk::start(mmproj).await;
    disk.deployment.overload_provider();
    disk.put_program();
    disk.put("model.gguf");
    disk.is_unavailable_because("mmproj.gguf` of `--mmproj` does not exist").await;
    disk.put("mmproj.gguf");
    disk.is_served_locally().await;
}

#[tokio::test]
async fn reload_that_names_a_missing_model_takes_effect() {
    let disk = EmptyDisk::start(|_| String::new()).await;
    disk.put_program();
    disk.put("model.gguf");
    disk.deployment.overload_provider();
    disk.is_served_locally().await;

    disk.deployment.agent.reload(|config| config.replace("model.gguf", "other.gguf")).await;
    disk.is_unavailable_because("other.gguf` does not exist").await;
    disk.put("other.gguf");
    disk.is_served_locally().await;
}

#[tokio::test]
async fn check_warns_of_missing_files_and_rejects_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mcplocal.yaml");
    let check = |more: &str| {
        let config = format!(
            "server: https://mcpd.example.com\nproviders:\n{}{more}",
            managed(dir.path(), "model.gguf")
        );
        fs::write(&path, config).unwrap();
        let mut agent = std::process::Command::new(program("mcplocal"));
        let output = agent.arg("--check").arg("--config").arg(&path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, output) = check("");
    assert_eq!(code, Some(0), "{output}");
    let place = format!("warning: {}:3:1: provider `desk`: `", path.display());
    assert!(output.starts_with(&place) && output.contains("\nhint: check the path in `command`"), "{output}");

    // A missing file does not hide a mistake.
    let (code, output) = check("    extraArgs: [--host, 0.0.0.0]\n");
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("`--host` is decided by the agent"), "{output}");
}

#[tokio::test]
async fn journal_that_cannot_be_opened_denies_local_answers_only() {
    let mut deployment = Deployment::start().await;
    let journal = deployment.agent.journal_file();
    deployment.agent.kill();
    // A directory in its place, which even root cannot open as a file.
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    deployment.agent.restart().await;
    assert_eq!(deployment.chat().await.status(), StatusCode::OK, "mcpd answers");

    deployment.provider.refuse().await;
    let answer = deployment.chat().await;
    assert_eq!(answer.headers()["mcpctl-no-failover"], "no_journal");
    assert!(deployment.desk.inferences().is_empty());
    assert!(deployment.agent.status().await["journal"].is_string());

    fs::remove_dir(&journal).unwrap();
    let answer = deployment.chat().await;
    assert_eq!(answer.headers()["mcpctl-served-by"], "desk");
    assert_eq!(deployment.agent.status().await["journal"], Value::Null);
    assert!(!deployment.agent.journal().is_empty());
}
