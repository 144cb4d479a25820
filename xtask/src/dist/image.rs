//! The file system of the image: mcpd, the libraries that it needs, and the authorities that it trusts. Nothing else, no shell either.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{output, tar};

/// The user of the image, as in its `Containerfile`.
pub(super) const USER: u32 = 65532;
/// Where it keeps its data.
pub(super) const DATA: &str = "var/lib/mcpd";
/// The authorities of Debian and Ubuntu.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Lays it out in `image`, and packs it into `image.tar` with its owners.
pub(super) fn make(mcpd: &Path, out: &Path) -> Result<()> {
    let root = out.join("image");
    install(mcpd, &root.join("usr/bin/mcpd"), 0o755)?;
    for library in libraries(mcpd)? {
        install(&library, &root.join(library.strip_prefix("/")?), 0o755)?;
    }
    let authorities = Path::new("/").join(AUTHORITIES);
    install(&authorities, &root.join(AUTHORITIES), 0o644)
        .context("the package ca-certificates is missing")?;
    let user = format!("root:x:0:0:root:/:/none\nmcpd:x:{USER}:{USER}:mcpd:/{DATA}:/none\n");
    fs::write(root.join("etc/passwd"), user)?;
    fs::write(root.join("etc/group"), format!("root:x:0:\nmcpd:x:{USER}:\n"))?;
    // Where it is missing, the C library asks the network for `localhost` and for names in `/etc/hosts` too.
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    let tmp = root.join("tmp");
    fs::create_dir_all(&tmp)?;
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
    let data = root.join(DATA);
    fs::create_dir_all(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;

    let archive = out.join("image.tar");
    let exclude = format!("--exclude=./{DATA}");
    tar(&archive, &root, &["--owner=0", "--group=0", &exclude, "."])?;
    let owner = [format!("--owner={USER}"), format!("--group={USER}")];
    let mut append = Command::new("tar");
    append.arg("--append").arg("--file").arg(&archive).arg("--directory").arg(&root);
    super::check(append.args(["--mtime=@0", "--numeric-owner"]).args(owner).arg(format!("./{DATA}")))?;
    fs::remove_dir_all(&root).context("the image's folder")
}

/// The libraries that a program needs, its loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = output(Command::new("ldd").arg(program))?;
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    if paths.is_empty() {
        bail!("`{}` needs no library: ldd cannot read it", program.display());
    }
    Ok(paths)
}

/// Copies a file, not a link to it.
fn install(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().with_context(|| to.display().to_string())?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| to.display().to_string())
}
