//! `mcpd fsck`: checks the store, beside the daemon or alone, and changes nothing.

use mcpctl_store::transfer::{Check, Source};
use mcpctl_telemetry::output;

use super::{Keys, interruptible, transfer_error};
use crate::{config::ServeArgs, print, with_hint};

/// Runs the command.
///
/// # Errors
/// When the store cannot be read, or something is wrong with it.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    let config = args.resolve()?;
    let keys = Keys::load(&config)?;
    let mut source = Source::open(&config.database).await.map_err(transfer_error)?;
    let keys = keys.of(&mut source).await?;
    let checks = interruptible(async { source.check(&keys).await.map_err(transfer_error) }).await?;
    for check in &checks {
        report(check)?;
    }
    let problems: u64 = checks.iter().map(problems).sum();
    match problems {
        0 => Ok(()),
        1 => Err(with_hint(
            "1 problem in the store",
            Some("nothing was changed; the lines above have the next steps"),
        )),
        problems => Err(with_hint(
            format!("{problems} problems in the store"),
            Some("nothing was changed; the lines above have the next steps"),
        )),
    }
}

fn problems(check: &Check) -> u64 {
    check.unlisted.saturating_add(u64::try_from(check.problems.len()).unwrap_or(u64::MAX))
}

fn report(check: &Check) -> anyhow::Result<()> {
    let count = indicatif::HumanCount(check.count);
    let verdict = match problems(check) {
        0 => "ok".to_owned(),
        1 => "1 problem".to_owned(),
        problems => format!("{problems} problems"),
    };
    print(&format!("{:14} {count:>12}  {verdict}", check.subject))?;
    for problem in &check.problems {
        output::note(format_args!("  {}: {}\n    hint: {}", problem.place, problem.what, problem.hint));
    }
    if check.unlisted > 0 {
        output::note(format_args!("  and {} more", check.unlisted));
    }
    Ok(())
}
