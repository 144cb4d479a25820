//! Opens an address in the browser of this machine, without showing it to other users of the machine, who can read the
//! arguments of every process.

use std::process::{Child, Command, Stdio};

use mcpctl_owner::connection::OWNERS_ARE_REPORTED;

/// Whether the address becomes an argument of a program, so that it must carry nothing.
pub const IS_ARGUMENT: bool = !cfg!(target_os = "macos");

/// Opens the address. Returns whether there is a program that does; the address is printed in any case.
pub fn open(address: &str) -> bool {
    started(address).is_some()
}

/// The script goes to standard input, so that it is in no argument.
#[cfg(target_os = "macos")]
fn started(address: &str) -> Option<Child> {
    use std::io::Write as _;
    if std::env::var_os("SSH_CONNECTION").is_some() {
        return None;
    }
    let mut child = silent("osascript").arg("-").stdin(Stdio::piped()).spawn().ok()?;
    let address = address.replace('\\', "%5C").replace('"', "%22");
    writeln!(child.stdin.take()?, "open location \"{address}\"").ok()?;
    Some(child)
}

/// Only where there is a desktop: `xdg-open` starts a browser in the terminal otherwise.
#[cfg(not(target_os = "macos"))]
fn started(address: &str) -> Option<Child> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !OWNERS_ARE_REPORTED || !(set("DISPLAY") || set("WAYLAND_DISPLAY")) {
        return None;
    }
    silent("xdg-open").arg(address).spawn().ok()
}

fn silent(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
