//! Checks the units of systemd: nothing in them is unknown, and that of mcpd is hardened.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::output;

/// The highest exposure of mcpd's unit, in tenths, as `systemd-analyze security` counts it.
const MAX_EXPOSURE: &str = "20";

/// A unit, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Of the machine.
    Mcpd,
    /// Of each user.
    Mcplocal,
}

impl Unit {
    pub(super) const ALL: [Self; 2] = [Self::Mcpd, Self::Mcplocal];

    /// The name of its program.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Mcpd => "mcpd",
            Self::Mcplocal => "mcplocal",
        }
    }

    /// Checks the text of the unit, whose program is one of those in `programs` here.
    pub(super) fn check(self, text: &str, programs: &Path) -> Result<()> {
        let installed = format!("/usr/bin/{}", self.program());
        ensure!(text.contains(&installed), "it does not start {installed}");
        let built = programs.join(self.program());
        ensure!(built.is_file(), "`{}` is not built", built.display());
        let place = TempDir::new()?;
        let unit = place.path().join(format!("{}.service", self.program()));
        fs::write(&unit, text.replace(&installed, &built.display().to_string()))?;
        let mut verify = Command::new("systemd-analyze");
        if self == Self::Mcplocal {
            // A session has it, and a build machine may not.
            verify.arg("--user").env("XDG_RUNTIME_DIR", place.path());
        }
        let verified =
            verify.arg("verify").arg(&unit).output().context("systemd-analyze cannot be started")?;
        let findings = String::from_utf8_lossy(&verified.stderr);
        // An unknown key is a warning, and no failure. It warns of the machine's own units too.
        let ours: Vec<_> = findings.lines().filter(|line| line.contains(self.program())).collect();
        ensure!(verified.status.success() && ours.is_empty(), "{}", findings.trim());
        if self == Self::Mcpd {
            let threshold = format!("--threshold={MAX_EXPOSURE}");
            output(
                Command::new("systemd-analyze")
                    .args(["security", "--offline=true", "--no-pager", &threshold])
                    .arg(&unit),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_testkit::daemons::program;
    use xtask::cargo;

    use super::*;

    /// The folder of the built programs; none where systemd's are missing.
    fn programs() -> Option<std::path::PathBuf> {
        if Command::new("systemd-analyze").arg("--version").output().is_err() {
            eprintln!("skipped: systemd-analyze is not installed");
            return None;
        }
        program("mcpd").parent().map(Path::to_owned)
    }

    fn packaged(unit: Unit) -> String {
        let file = format!("packaging/systemd/{}.service", unit.program());
        fs::read_to_string(cargo::root().join(file)).unwrap()
    }

    #[test]
    fn packaged_units_are_valid_and_hardened() {
        let Some(programs) = programs() else { return };
        for unit in Unit::ALL {
            unit.check(&packaged(unit), &programs).unwrap();
        }
    }

    #[test]
    fn unknown_keys_and_lost_hardening_are_found() {
        let Some(programs) = programs() else { return };
        let misspelt = packaged(Unit::Mcpd).replace("PrivateTmp=", "PrivateTemp=");
        let error = Unit::Mcpd.check(&misspelt, &programs).unwrap_err().to_string();
        assert!(error.contains("PrivateTemp"), "{error}");
        let open = packaged(Unit::Mcpd).replace("SystemCallFilter=", "# ").replace("User=mcpd", "");
        assert!(Unit::Mcpd.check(&open, &programs).is_err());
    }
}
