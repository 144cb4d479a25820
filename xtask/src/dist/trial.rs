//! Tries what `cargo xtask dist` has made: the checksums, the packages in a root of their own, the units, and the image.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use super::{check, image, output, units::Unit};

const SUITE: &str = "bookworm";
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Tries everything; needs root.
pub(super) fn run(out: &Path) -> Result<()> {
    check(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(out))?;
    done("checksums hold");
    try_image(out)?;
    done("the image's file system serves as its user, with nothing writable but its data");
    let root = tempfile::tempdir()?;
    try_packages(out, root.path())?;
    done("the packages install, serve as the user mcpd, and keep data and configuration");
    try_units(root.path())?;
    done("the units are valid, and mcpd's is hardened");
    Ok(())
}

fn done(what: &str) {
    anstream::println!("   ok {what}");
}

/// Runs the image's program below its own root, read-only but for the data directory.
fn try_image(out: &Path) -> Result<()> {
    let place = TempDir::new()?;
    let (root, data) = (place.path().join("root"), place.path().join("data"));
    fs::create_dir_all(&root)?;
    fs::create_dir_all(&data)?;
    check(
        Command::new("tar")
            .arg("--extract")
            .arg("--same-owner")
            .arg("--file")
            .arg(out.join("image.tar"))
            .arg("--directory")
            .arg(&root),
    )?;
    let owner = output(Command::new("stat").args(["--format=%u %a"]).arg(root.join(image::DATA)))?;
    ensure!(owner.trim() == format!("{} 700", image::USER), "the data directory is `{}`", owner.trim());
    check(Command::new("chown").arg(image::USER.to_string()).arg(&data))?;
    check(Command::new("chmod").arg("700").arg(&data))?;
    let port = free_port()?;
    // Mounts are seen by this process and its children alone.
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && mount --bind \"$2\" \"$1/$3\" && \
                  exec chroot --userspec=\"$4:$4\" \"$1\" /usr/bin/mcpd serve --listen \"127.0.0.1:$5\" --data-dir \"/$3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&root).arg(&data);
    command.args([image::DATA, &image::USER.to_string(), &port.to_string()]);
    Served::start(&mut command, port)?.stop()?;
    let token = output(Command::new("stat").args(["--format=%u %a"]).arg(data.join("bootstrap-token")))?;
    ensure!(token.trim() == format!("{} 600", image::USER), "the first token is `{}`", token.trim());
    Ok(())
}

/// Installs both packages into a new Debian.
fn try_packages(out: &Path, root: &Path) -> Result<()> {
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=systemd,ca-certificates", SUITE]).arg(root);
    check(debootstrap.stdout(Stdio::null()))?;
    let packages = packages(out)?;
    for package in &packages {
        fs::copy(package, root.join("tmp").join(package.file_name().unwrap_or_default()))?;
    }
    // The same programs as an older version, because an upgrade runs other parts of the scripts than a second installation does.
    inside(
        root,
        "mkdir /tmp/old; cd /tmp; for package in *.deb; do dpkg-deb --raw-extract $package content; \
         sed -i 's/^Version: .*/Version: 0.0.1-1/' content/DEBIAN/control; \
         dpkg-deb --build -Zgzip -z1 content old/$package; rm -r content; done; dpkg --install old/*.deb",
    )?;
    for program in super::PROGRAMS {
        inside(root, &format!("{program} --version"))?;
    }
    inside(
        root,
        "test -s /usr/share/man/man1/mcpctl-create-token.1.gz && bash -n /usr/share/bash-completion/completions/mcpctl",
    )?;
    inside(root, "runuser -u mcpd -- mcpd serve --check --config /etc/mcpd/mcpd.yaml")?;
    serve_installed(root)?;

    // An upgrade keeps what an administrator wrote, and the data.
    let config = root.join("etc/mcpd/mcpd.yaml");
    let written = format!("{}logFormat: json\n", fs::read_to_string(&config)?);
    fs::write(&config, &written)?;
    let install = "dpkg --install /tmp/*.deb";
    inside(root, install)?;
    inside(root, "dpkg-query --show mcpd mcpctl | { ! grep 0.0.1; }")?;
    ensure!(fs::read_to_string(&config)? == written, "the upgrade replaced the configuration");
    serve_installed(root)?;
    inside(root, "setpriv --reuid=mcpd --regid=mcpd --clear-groups mcpd fsck --config /etc/mcpd/mcpd.yaml")?;

    // A removal keeps both, and a purge the data.
    inside(root, "dpkg --remove mcpd")?;
    ensure!(!root.join("usr/bin/mcpd").exists(), "the program is still there");
    ensure!(fs::read_to_string(&config)? == written, "the removal took the configuration");
    inside(root, "dpkg --purge mcpd")?;
    ensure!(!config.exists(), "the purge kept the configuration");
    ensure!(root.join("var/lib/mcpd/master-key").is_file(), "the purge took the master key");
    inside(root, install)?;
    serve_installed(root)
}

/// Runs the installed mcpd as its user, until it is ready.
fn serve_installed(root: &Path) -> Result<()> {
    let port = free_port()?;
    let mut serve = Command::new("chroot");
    serve.arg("--userspec=mcpd:mcpd").arg(root);
    serve.args(["/usr/bin/mcpd", "serve", "--config", "/etc/mcpd/mcpd.yaml"]);
    Served::start(serve.args(["--listen", &format!("127.0.0.1:{port}")]), port)?.stop()
}

fn packages(out: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    ensure!(packages.len() == super::PACKAGES.len(), "not every package was made");
    Ok(packages)
}

fn inside(root: &Path, script: &str) -> Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["sh", "-ec", script]).stdout(Stdio::null());
    check(command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"))
}

/// Checks the units where the packages have put them.
fn try_units(root: &Path) -> Result<()> {
    let programs = root.join("usr/bin");
    for unit in Unit::ALL {
        let file = format!("{}.service", unit.program());
        let folders = ["usr/lib/systemd/system", "lib/systemd/system", "usr/lib/systemd/user"];
        let places = folders.map(|folder| root.join(folder).join(&file));
        let place = places.iter().find(|path| path.is_file());
        let place = place.with_context(|| format!("`{file}` is not installed"))?;
        unit.check(&fs::read_to_string(place)?, &programs).with_context(|| file.clone())?;
    }
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A running mcpd, ended when dropped.
struct Served(Child);

impl Served {
    /// Starts it, and waits until `/readyz` is answered with 200.
    fn start(command: &mut Command, port: u16) -> Result<Self> {
        let served = Self(command.spawn().with_context(|| format!("{command:?}"))?);
        let start = Instant::now();
        while !is_ready(port) {
            if start.elapsed() > START_TIMEOUT {
                bail!("{command:?} did not become ready");
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the condition is asked for again, up to a timeout"
            )]
            thread::sleep(POLL_INTERVAL);
        }
        Ok(served)
    }

    /// Ends it as a service manager does.
    fn stop(mut self) -> Result<()> {
        check(Command::new("kill").arg("-TERM").arg(self.0.id().to_string()))?;
        let ended = self.0.wait()?;
        ensure!(ended.success(), "mcpd ended with {ended}");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
