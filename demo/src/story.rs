//! The story of the demo. A request goes through `mcplocal` and `mcpd` to a model; the provider dies and a local model takes over; it returns,
//! and so does the traffic; the network path is cut and the local model takes over again; the Llm is revoked, and the
//! next request fails closed with the primary's own error; access is granted again, and it works again.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mcpctl_api::agent::{EngineState, FailoverOutcome};
use mcpctl_failover::Access;

use xtask::{
    engines::llama_server::{self, LlamaServer},
    printer::Printer,
};

use crate::{
    chat::Reply,
    world::{LLM, PROVIDER, World},
};

/// How long the traffic may take to return once mcpd is back: more than the breaker stays open.
const RETURN: Duration = Duration::from_secs(30);

/// Runs the story; an error names the step that did not hold.
pub(crate) fn run(keep: bool, headless: bool) -> Result<()> {
    let printer = Printer::new(headless);
    printer
        .title("mcpctl: clients fall back from a central model to a local one, exactly while mcpd allows it");
    let model = llama_server::fetch(&printer)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(run_story(&printer, model, keep));
    // What was started is ended by now, also when a step did not hold.
    ended?;
    printer.good("every step held");
    Ok(())
}

async fn run_story(printer: &Printer, model: LlamaServer, keep: bool) -> Result<()> {
    let mut world = World::build(printer, model).await?;

    printer.step("a central answer");
    printer.text("mcplocal forwards to mcpd, mcpd to the provider. Nothing local runs.");
    expect_central(&world.chat(printer).await?)?;
    ensure!(
        world.engine().await?.state == EngineState::Stopped,
        "the local engine ran although no request needed it"
    );

    printer.step("the provider dies, the local model takes over");
    world.kill_provider(printer);
    printer.text("mcpd cannot reach the provider. mcplocal asks mcpd whether this user may still see the Llm, and starts its own model.");
    expect_local(&world.chat(printer).await?)?;

    printer.step("the provider returns, and so does the traffic");
    world.start_provider(printer).await?;
    until_central(printer, &world).await?;

    printer.step("the network path to inference is cut");
    world.cut(printer).await;
    printer.text(
        "mcpd still answers questions, but inference does not get there. The local model takes over again.",
    );
    expect_local(&world.chat(printer).await?)?;

    printer.step("the administrator revokes the Llm");
    let before = world.engine().await?;
    world.revoke(printer)?;
    let access = world.probe().await?.access();
    printer.seen(&format!("the probe returns: {access}"));
    ensure!(access == Access::Forbidden, "the probe should return forbidden, it returned {access}");
    printer.text("The path is still cut, so the primary fails as before. This time no fallback is allowed.");
    expect_primary_error(&world.chat(printer).await?)?;
    let after = world.engine().await?;
    ensure!(after.in_flight == 0, "the local engine works on something");
    ensure!(world.engine_completions(&before) == 0, "the local engine answered although it may not");
    printer.seen("the local engine stayed idle");
    let last = world.last_failover().await?;
    let outcome = last.outcome.as_str();
    ensure!(last.outcome == FailoverOutcome::Refused, "the journal has `{outcome}` instead of `refused`");
    ensure!(last.access == ["forbidden"], "the journal has {:?} instead of forbidden", last.access);
    printer.seen("the journal has: refused, forbidden");

    printer.step("access is granted again");
    world.grant(printer)?;
    expect_local(&world.chat(printer).await?)?;

    printer.step("the network path is restored");
    world.restore(printer).await?;
    until_central(printer, &world).await?;

    if keep {
        world.print_how_to_use(printer)?;
        tokio::signal::ctrl_c().await?;
    }
    world.end(printer).await
}

fn expect_central(reply: &Reply) -> Result<()> {
    match reply {
        Reply::Answer { served_by, text } => {
            ensure!(served_by.failover.is_none(), "a local model answered instead of the central one");
            ensure!(served_by.name.as_deref() == Some(LLM), "answered by {:?}", served_by.name);
            ensure!(!text.is_empty(), "the answer is empty");
            Ok(())
        }
        Reply::Error { message, .. } => bail!("no answer: {message}"),
    }
}

fn expect_local(reply: &Reply) -> Result<()> {
    match reply {
        Reply::Answer { served_by, text } => {
            ensure!(
                served_by.failover.is_some(),
                "the central model answered although it should not be able to"
            );
            ensure!(served_by.name.as_deref() == Some(PROVIDER), "answered by {:?}", served_by.name);
            ensure!(!text.is_empty(), "the answer is empty");
            Ok(())
        }
        Reply::Error { message, .. } => bail!("no answer: {message}"),
    }
}

fn expect_primary_error(reply: &Reply) -> Result<()> {
    match reply {
        Reply::Answer { .. } => bail!("there was an answer although the Llm is revoked"),
        Reply::Error { status, code, .. } => {
            ensure!(*status == 502, "status {status} instead of the primary's 502");
            ensure!(code == "connect", "code `{code}` instead of the primary's `connect`");
            Ok(())
        }
    }
}

/// The breaker skips mcpd for some seconds after repeated failures, so the traffic returns by itself but not at once.
async fn until_central(printer: &Printer, world: &World) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let reply = world.chat(printer).await?;
        if expect_central(&reply).is_ok() {
            return Ok(());
        }
        ensure!(begun.elapsed() < RETURN, "the traffic did not return within {} s", RETURN.as_secs());
        printer.text("the breaker skips mcpd for a few seconds after repeated failures; once more");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
