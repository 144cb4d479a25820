//! Opens an address in the browser of this machine.

use std::process::{Command, Stdio};

use url::Url;

/// Opens the address. Returns whether there is a program that does; the address is printed in any case.
pub fn open(url: &Url) -> bool {
    let Some(program) = opener() else { return false };
    // The text of a URL begins with its scheme, so it is never read as an option.
    let mut command = Command::new(program);
    command.arg(url.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().is_ok()
}

#[cfg(target_os = "macos")]
fn opener() -> Option<&'static str> {
    std::env::var_os("SSH_CONNECTION").is_none().then_some("open")
}

/// Only where there is a desktop: `xdg-open` starts a browser in the terminal otherwise.
#[cfg(not(target_os = "macos"))]
fn opener() -> Option<&'static str> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    (set("DISPLAY") || set("WAYLAND_DISPLAY")).then_some("xdg-open")
}
