//! Directories and files of the daemon: nothing is used that another user could have made or could change, and nothing is
//! made that another user can read.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use mcpctl_testkit::{daemons::program, other_user::may_act_as_other_user};
use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

/// Far longer than a start takes; a daemon that waits for a pipe would take for ever.
const START: Duration = Duration::from_secs(30);

fn home() -> (TempDir, PathBuf) {
    let home = tempfile::Builder::new().prefix("files-").tempdir().unwrap();
    let data = home.path().join("data");
    (home, data)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn command(data: &Path) -> Command {
    // What a careless login shell may have set.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(program("mcpd"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts the daemon until it is ready or has ended, and ends it; answers whether it was ready, and what it wrote.
async fn start(mut command: Command) -> (bool, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut stderr = String::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            stderr += &line;
            stderr.push('\n');
            if line.contains("mcpd is ready") {
                return true;
            }
        }
        false
    };
    let ready = timeout(START, reading).await.expect("neither ready nor ended");
    child.kill().await.unwrap();
    (ready, stderr)
}

async fn refused(data: &Path) -> String {
    let (ready, stderr) = start(command(data)).await;
    assert!(!ready && stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{stderr}");
    stderr
}

#[tokio::test]
async fn everything_it_makes_is_for_its_user_alone() {
    let (_home, data) = home();
    assert!(start(command(&data)).await.0);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
    let mut names = Vec::new();
    for file in fs::read_dir(&data).unwrap() {
        let file = file.unwrap();
        names.push(file.file_name().into_string().unwrap());
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{names:?}");
    }
    for name in ["master-key", "bootstrap-token", "mcpd.sqlite"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
}

#[tokio::test]
async fn data_directory_that_others_write_to_is_refused() {
    let (home, data) = home();
    fs::create_dir(&data).unwrap();
    for mode in [0o777, 0o775, 0o722, 0o1777] {
        chmod(&data, mode);
        let stderr = refused(&data).await;
        assert!(stderr.contains(&format!("its mode is {mode:04o}")), "{stderr}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is written there");
    }
    chmod(&data, 0o700);
    chmod(home.path(), 0o777);
    assert!(refused(&data).await.contains("can be written to by other users"));
    chmod(home.path(), 0o1777);
    assert!(start(command(&data)).await.0, "as /tmp is");
}

#[tokio::test]
async fn relative_paths_are_checked_like_others() {
    let (home, _) = home();
    let relative = || {
        let mut command = command(Path::new("data"));
        command.current_dir(home.path());
        command
    };
    chmod(home.path(), 0o777);
    let (ready, stderr) = start(relative()).await;
    assert!(!ready && stderr.contains("can be written to by other users"), "{stderr}");
    chmod(home.path(), 0o755);
    assert!(start(relative()).await.0);
    assert!(home.path().join("data/mcpd.sqlite").is_file());
    let (ready, stderr) = start(command(Path::new(""))).await;
    assert!(!ready && stderr.starts_with("error: "), "{stderr}");
}

#[tokio::test]
async fn planted_links_and_pipes_are_refused() {
    let (home, data) = home();
    let victim = home.path().join("victim");
    fs::write(&victim, "").unwrap();
    chmod(&victim, 0o600);
    for name in ["mcpd.sqlite", "mcpd.sqlite-wal", "mcpd.sqlite-shm"] {
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data).unwrap();
        chmod(&data, 0o700);
        let path = data.join(name);
        symlink(&victim, &path).unwrap();
        assert!(refused(&data).await.contains("is a symbolic link"));
        fs::remove_file(&path).unwrap();
        fs::hard_link(&victim, &path).unwrap();
        assert!(refused(&data).await.contains("has a second name"));
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert!(refused(&data).await.contains("is not a regular file"));
    }
    assert_eq!(fs::read(&victim).unwrap(), b"");
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    mkfifo(&data.join("master-key"), Mode::S_IRWXU).unwrap();
    let stderr = refused_in_any_words(command(&data)).await;
    assert!(stderr.contains("master key") && stderr.contains("not a regular file"), "{stderr}");
}

async fn refused_in_any_words(command: Command) -> String {
    let (ready, stderr) = start(command).await;
    assert!(!ready, "{stderr}");
    stderr
}

#[tokio::test]
async fn configuration_that_others_write_to_is_refused() {
    let (home, data) = home();
    let config = home.path().join("mcpd.yaml");
    let with_config = || {
        let mut command = command(&data);
        command.arg("--config").arg(&config);
        command
    };
    fs::write(&config, "log: info\n").unwrap();
    for mode in [0o666, 0o664, 0o602] {
        chmod(&config, mode);
        let stderr = refused_in_any_words(with_config()).await;
        assert!(
            stderr.contains(&format!("its mode is {mode:04o}")) && stderr.contains("hint: chmod go-w"),
            "{stderr}"
        );
    }
    chmod(&config, 0o644);
    assert!(start(with_config()).await.0);
    let link = home.path().join("real.yaml");
    fs::rename(&config, &link).unwrap();
    symlink("real.yaml", &config).unwrap();
    assert!(start(with_config()).await.0, "a link of this user leads on, as of mounted configuration");
    fs::remove_file(&config).unwrap();
    mkfifo(&config, Mode::S_IRWXU).unwrap();
    assert!(refused_in_any_words(with_config()).await.contains("is not a regular file"));
}

#[tokio::test]
async fn what_belongs_to_another_user_is_refused() {
    if !may_act_as_other_user() {
        return;
    }
    let (home, data) = home();
    fs::create_dir(&data).unwrap();
    chown(&data, Some(65534), None).unwrap();
    assert!(refused(&data).await.contains("belongs to user `nobody`"));
    fs::remove_dir(&data).unwrap();
    // A link that another user planted in a directory like /tmp leads to a directory of root's.
    chmod(home.path(), 0o1777);
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &data).unwrap();
    std::os::unix::fs::lchown(&data, Some(65534), None).unwrap();
    assert!(refused(&data).await.contains("belongs to user `nobody`"));
    assert!(refused(&data.join("below")).await.contains("belongs to user `nobody`"));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::remove_file(&data).unwrap();

    fs::create_dir(&data).unwrap();
    for name in ["mcpd.sqlite", "master-key"] {
        let path = data.join(name);
        fs::write(&path, "").unwrap();
        chmod(&path, 0o600);
        chown(&path, Some(65534), None).unwrap();
        assert!(refused_in_any_words(command(&data)).await.contains("belongs to user `nobody`"), "{name}");
        fs::remove_file(&path).unwrap();
    }
}
