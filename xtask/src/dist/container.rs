//! Runs the image as `compose.yaml` has it, with what a container engine adds: a root of its own that is read-only, its user, process 1, the
//! volume, the secrets, the name of the database. No engine is needed, and root is.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
};

use mcpctl_testkit::{
    authority::Authority,
    daemons::{eventually, program},
    other_user::may_act_as_other_user,
    postgres::Postgres,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tempfile::TempDir;
use xtask::cargo;

use super::image;

/// What an engine adds to the environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The name that `MCPD_PUBLIC_HOST` has where it is not set.
const HOST: &str = "localhost";

/// What the test reads of `compose.yaml`.
#[derive(Deserialize)]
struct Compose {
    services: Services,
    secrets: BTreeMap<String, SecretFile>,
}

#[derive(Deserialize)]
struct Services {
    mcpd: Service,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    volumes: Vec<String>,
    secrets: Vec<String>,
    read_only: bool,
    security_opt: Vec<String>,
    healthcheck: HealthCheck,
}

#[derive(Deserialize)]
struct HealthCheck {
    test: Vec<String>,
}

#[derive(Deserialize)]
struct SecretFile {
    file: String,
}

/// What the test reads of the `Containerfile`.
struct Containerfile {
    user: String,
    environment: Vec<(String, String)>,
    entry_point: Vec<String>,
    command: Vec<String>,
    health_check: Vec<String>,
}

impl Containerfile {
    fn read() -> Self {
        let text = packaged("Containerfile");
        let after = |word: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(word));
            line.unwrap_or_else(|| panic!("no {word}in the Containerfile")).trim().to_owned()
        };
        // JSON is YAML.
        let words = |text: &str| mcpctl_api::yaml::from_str::<Vec<String>>(text).unwrap();
        let health_check = after("HEALTHCHECK ");
        let pairs = after("ENV ");
        let pairs = pairs.split_whitespace().map(|pair| pair.split_once('=').unwrap());
        Self {
            user: after("USER "),
            environment: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            entry_point: words(&after("ENTRYPOINT ")),
            command: words(&after("CMD ")),
            health_check: words(health_check.split_once("CMD ").unwrap().1),
        }
    }
}

fn packaged(file: &str) -> String {
    fs::read_to_string(cargo::root().join("packaging/container").join(file)).unwrap()
}

/// The image with its mounts, and how commands run in it.
struct Container {
    place: TempDir,
    environment: Vec<(String, String)>,
    user: String,
}

impl Container {
    fn root(&self) -> PathBuf {
        self.place.path().join("root")
    }

    /// The volume of the data directory.
    fn volume(&self) -> PathBuf {
        self.place.path().join("volume")
    }

    /// The words that run a command in the root as the user, with no other environment.
    fn inside(&self, words: &[String]) -> Vec<String> {
        let mut all = vec!["env".to_owned(), "-i".to_owned(), format!("PATH={PATH}")];
        all.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        // The user has no capabilities, so none have to be dropped.
        let (user, root) = (format!("--userspec={}", self.user), self.root().display().to_string());
        all.extend(["setpriv", "--no-new-privs", "chroot", &user, &root].map(str::to_owned));
        all.extend_from_slice(words);
        all
    }

    /// Starts the first process.
    fn start(&self, words: &[String]) -> Running<'_> {
        let root = self.root();
        let script = "mount --bind \"$1\" \"$1\" && mount -t proc proc \"$1/proc\" && mount --bind \"$2\" \"$1/var/lib/mcpd\" && \
                      mount -o remount,bind,ro \"$1\" && shift 2 && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]);
        command.arg(&root).arg(self.volume()).args(self.inside(words));
        let log = fs::File::create(self.place.path().join("log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Running { container: self, child }
    }
}

/// The container while it runs.
struct Running<'a> {
    container: &'a Container,
    child: Child,
}

impl Running<'_> {
    /// The first process, as this machine knows it; none before it is started and after it ended.
    fn pid(&self) -> Option<i32> {
        let unshare = self.child.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        children.trim().parse().ok()
    }

    async fn started(&self) {
        eventually("the container has its first process", async || self.pid().is_some().then_some(())).await;
    }

    /// Runs another command in the container, as a health check does.
    fn run(&self, words: &[String]) -> Output {
        let pid = self.pid().expect("the container runs").to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "--pid"]).args(self.container.inside(words));
        command.output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.container.place.path().join("log")).unwrap_or_default()
    }

    /// Ends it as `docker stop` does.
    fn stop(mut self) -> bool {
        kill(Pid::from_raw(self.pid().expect("the container runs")), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        // Its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `${NAME:-default}` is the default here.
fn without_variables(value: &str) -> String {
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(variable) => variable.split_once(":-").unwrap().1.to_owned(),
        None => value.to_owned(),
    }
}

fn extract(into: &Path) {
    let made = tempfile::tempdir().unwrap();
    image::make(&program("mcpd"), made.path()).unwrap();
    fs::create_dir(into).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--same-owner").arg("--file").arg(made.path().join("image.tar"));
    assert!(tar.arg("--directory").arg(into).status().unwrap().success());
}

/// Whether namespaces can be made: root of most containers cannot.
fn may_unshare() -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    let may = tried.is_ok_and(|tried| tried.status.success());
    if !may {
        eprintln!("skipped: namespaces cannot be made here");
    }
    may
}

#[tokio::test]
async fn image_serves_as_compose_has_it() {
    if !may_act_as_other_user() || !may_unshare() {
        return;
    }
    let compose: Compose = mcpctl_api::yaml::from_str(&packaged("compose.yaml")).unwrap();
    let (service, file) = (compose.services.mcpd, Containerfile::read());
    assert_eq!(file.user, format!("{0}:{0}", image::USER));
    assert_eq!(service.volumes, [format!("mcpd:/{}", image::DATA)]);
    assert!(service.read_only && service.security_opt == ["no-new-privileges:true"]);
    let health = service.healthcheck.test.split_first().unwrap();
    assert_eq!((health.0.as_str(), health.1), ("CMD", file.health_check.as_slice()));

    let mut postgres = Postgres::start();
    let authority = Authority::new();
    let issued = authority.issue("tls", &[HOST]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut environment: BTreeMap<String, String> = file.environment.into_iter().collect();
    environment
        .extend(service.environment.iter().map(|(name, value)| (name.clone(), without_variables(value))));
    let listen = environment.get_mut("MCPD_LISTEN").unwrap();
    *listen = listen.replace("3100", &port.to_string());
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let container = Container { place, environment: environment.into_iter().collect(), user: file.user };
    let root = container.root();
    extract(&root);

    // What the engine adds: mount points, the names of services, the secrets, the volume with the owner that the image has there.
    fs::create_dir(root.join("proc")).unwrap();
    fs::write(root.join("etc/hosts"), format!("127.0.0.1 {HOST} db\n")).unwrap();
    let url = postgres.url().replace("127.0.0.1", "db");
    for secret in &service.secrets {
        let to = root.join("run/secrets").join(secret);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match compose.secrets[secret].file.as_str() {
            "./database-url" => fs::write(&to, &url).unwrap(),
            "./tls.pem" => fs::write(&to, fs::read(&issued.certificate).unwrap()).unwrap(),
            "./tls-key.pem" => fs::write(&to, fs::read(&issued.key).unwrap()).unwrap(),
            other => panic!("no `{other}` in the first lines of compose.yaml"),
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(image::USER), None).unwrap();
    }
    let volume = container.volume();
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::metadata(root.join(image::DATA)).unwrap().permissions()).unwrap();
    chown(&volume, Some(image::USER), Some(image::USER)).unwrap();

    let command = if service.command.is_empty() { file.command } else { service.command };
    let running = container.start(&[file.entry_point, command].concat());
    running.started().await;
    let check = |more: &[&str]| {
        let words = file.health_check.iter().map(String::as_str).chain(more.iter().copied());
        running.run(&words.map(str::to_owned).collect::<Vec<_>>())
    };
    eventually("the container is healthy", async || check(&[]).status.success().then_some(())).await;
    // As clients see it.
    let outside = Command::new(program("mcpd"))
        .args(["health", &format!("https://{HOST}:{port}"), "--ca"])
        .arg(authority.ca_file())
        .output();
    assert!(outside.as_ref().unwrap().status.success(), "{outside:?}");
    let token = fs::metadata(volume.join("bootstrap-token")).unwrap();
    assert_eq!((token.uid(), token.mode() & 0o777), (image::USER, 0o600));

    postgres.stop();
    eventually("the container is unhealthy", async || (!check(&[]).status.success()).then_some(())).await;
    let unhealthy = String::from_utf8(check(&[]).stderr).unwrap();
    assert!(unhealthy.contains("is not ready: "), "{unhealthy}");
    assert!(check(&["--live"]).status.success());
    postgres.start_again();
    eventually("the container is healthy again", async || check(&[]).status.success().then_some(())).await;
    assert!(running.stop());
}
