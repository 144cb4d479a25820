//! The commands: those of mcpctl by its own reference, those of the daemons by their help.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

/// The page.
pub(super) fn page(programs: &Path) -> Result<String> {
    let mut text = output(&programs.join("mcpctl"), &["reference"])?;
    for program in ["mcpd", "mcplocal"] {
        help(programs, program, &mut Vec::new(), &mut text)?;
    }
    Ok(text)
}

/// The help of a command, and of those below it.
fn help(programs: &Path, program: &str, path: &mut Vec<String>, text: &mut String) -> Result<()> {
    let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let help = output(&programs.join(program), &words)?;
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let name = [&[program.to_owned()], path.as_slice()].concat().join(" ");
    text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim()));
    for below in commands(&lines) {
        path.push(below);
        self::help(programs, program, path, text)?;
        path.pop();
    }
    Ok(())
}

/// The commands that a help lists.
fn commands(help: &[&str]) -> Vec<String> {
    let listed =
        help.iter().skip_while(|line| **line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // The description of a command goes on in lines that are indented further.
    let names = listed.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names = names.filter_map(|rest| rest.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// What a program prints, in a terminal of 100 columns and in an environment without its variables.
fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .with_context(|| format!("`{}` cannot be started", program.display()))?;
    if !output.status.success() {
        bail!(
            "`{} {}` failed: {}",
            program.display(),
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).context("a help that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_a_help() {
        let help = [
            "Usage: mcpd",
            "",
            "Commands:",
            "  serve   Run",
            "          and more",
            "  help    Print",
            "",
            "Options:",
            "  -h",
        ];
        assert_eq!(commands(&help), ["serve"]);
    }
}
