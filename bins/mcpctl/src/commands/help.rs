//! What the commands are, for people and for documents: `mcpctl options`, `mcpctl man`, and the reference as Markdown.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::roff::{Roff, bold, roman};

use crate::{Outcome, commands::Cli, examples, failure::Failure, output::terminal, suggest::did_you_mean};

/// Which pages, and where to.
#[derive(clap::Args)]
pub struct ManArgs {
    /// The command whose page to print, e.g. create token; the program's own where none is given
    #[arg(conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory, which is made where there is none
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The whole command line with its examples and what the parser adds to it.
fn built() -> Command {
    let mut command = examples::add(Cli::command());
    command.build();
    command
}

/// Prints the options that every command has, and the variables.
pub fn options() -> Outcome {
    let command = Cli::command();
    let global = command.get_arguments().filter(|arg| arg.is_global_set() && arg.get_id() != "help");
    let options = global.fold(Command::new("options").disable_help_flag(true), |options, arg| {
        options.arg(arg.clone().hide_short_help(false).help_heading("Options that every command has"))
    });
    let mut options = options.help_template("{all-args}").max_term_width(100);
    let help = options.render_help();
    let text = if terminal::is_coloured() { help.ansi().to_string() } else { help.to_string() };
    print_text(&format!("{}\n\nEnvironment:\n{}\n", text.trim_end(), examples::ENVIRONMENT))
}

/// Prints a man page, or writes those of all commands.
pub fn man(args: &ManArgs) -> Outcome {
    let mut command = Cli::command();
    let Some(dir) = &args.dir else {
        let mut path = Vec::new();
        for name in &args.command {
            let known = command.get_subcommands().map(Command::get_name).collect::<Vec<_>>();
            let hint = did_you_mean(name, known).unwrap_or_else(|| "mcpctl --help".to_owned());
            command = command.find_subcommand(name).cloned().ok_or_else(|| {
                Failure::usage(format!("`{}` is not a command", args.command.join(" "))).hint(hint)
            })?;
            path.push(command.get_name().to_owned());
        }
        return print_text(&String::from_utf8_lossy(&page(command, &path.join(" "))?));
    };
    let failed = |error: std::io::Error| {
        Failure::new(format!("`{}` cannot be written: {}", dir.display(), error.kind()))
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    write_pages(command, "", &|name: &str, page: &[u8]| {
        std::fs::write(dir.join(name), page).map_err(failed)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(
    command: Command,
    path: &str,
    write: &impl Fn(&str, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_pages(below.clone(), format!("{path} {}", below.get_name()).trim_start(), write)?;
    }
    write(&format!("{}.1", page_name(path)), &page(command, path)?)
}

/// `mcpctl-create-token`
fn page_name(path: &str) -> String {
    format!("mcpctl {path}").trim_end().replace(' ', "-")
}

/// The page of a command, in roff. The options that every command has are in the program's own page.
fn page(command: Command, path: &str) -> Result<Vec<u8>, Failure> {
    let name = page_name(path);
    let command = command
        .display_name(name.clone())
        .bin_name(format!("mcpctl {path}").trim_end())
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true);
    let has_commands = command.has_subcommands();
    let (mut text, man) = (Vec::new(), clap_mangen::Man::new(command).title(name));
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXAMPLES"]);
    for (what, line) in examples::of(path) {
        rest.control("TP", []);
        rest.text([roman(format!("{what}:"))]);
        rest.text([bold(*line)]);
    }
    if path.is_empty() {
        rest.control("SH", ["ENVIRONMENT"]);
        rest.control("nf", []);
        rest.text([roman(examples::ENVIRONMENT)]);
        rest.control("fi", []);
    } else {
        rest.control("SH", ["SEE ALSO"]);
        let above = path.rsplit_once(' ').map_or("", |(above, _)| above);
        rest.text([bold(page_name(above)), roman("(1)")]);
    }
    rest.to_writer(&mut text)?;
    Ok(text)
}

/// Prints all commands as Markdown: usage, arguments, options and examples of each.
pub fn reference() -> Outcome {
    let command = built();
    let mut text = String::new();
    section(&command, "", &mut text);
    print_text(&text)
}

fn print_text(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn section(command: &Command, path: &str, text: &mut String) {
    let name = format!("mcpctl {path}");
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    text.push_str(&format!("## {}\n\n{about}\n\n```text\n{usage}\n```\n\n", name.trim_end()));
    let own = |arg: &&Arg| !arg.is_hide_set() && arg.get_id() != "help" && arg.get_id() != "version";
    let shown = |arg: &&Arg| own(arg) && (path.is_empty() || !arg.is_global_set());
    let arguments: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    for arg in &arguments {
        text.push_str(&format!("- `{}`: {}\n", signature(arg), description(arg)));
    }
    if !arguments.is_empty() {
        text.push('\n');
    }
    let lines = examples::of(path).iter().map(|(what, line)| format!("# {what}\n{line}\n"));
    let lines: String = lines.collect();
    if !lines.is_empty() {
        text.push_str(&format!("```sh\n{lines}```\n\n"));
    }
    let is_shown = |below: &&Command| !below.is_hide_set() && below.get_name() != "help";
    for below in command.get_subcommands().filter(is_shown) {
        section(below, format!("{path} {}", below.get_name()).trim_start(), text);
    }
}

/// `-o, --output <FORMAT>`
fn signature(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default().join(" ");
    if arg.is_positional() {
        return values;
    }
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let long = arg.get_long().map(|long| format!("--{long}")).unwrap_or_default();
    let takes = arg.get_action().takes_values() && !values.is_empty();
    if takes { format!("{short}{long} {values}") } else { format!("{short}{long}") }
}

fn description(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let defaults = arg.get_default_values().iter().filter_map(|value| value.to_str()).collect::<Vec<_>>();
    let takes = arg.get_action().takes_values() && !defaults.is_empty();
    let default = if takes { format!(" (default: `{}`)", defaults.join(",")) } else { String::new() };
    let env = arg.get_env().and_then(|name| name.to_str());
    let env = env.map(|name| format!(" (variable: `{name}`)")).unwrap_or_default();
    format!("{help}{default}{env}")
}
