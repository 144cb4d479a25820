//! `cargo xtask demo`: the main job of the product, on real parts, told and checked step by step.
//!
//! A request goes through `mcplocal` and `mcpd` to a model; the provider dies and a local model takes over; it returns,
//! and so does the traffic; the network path is cut and the local model takes over again; the Llm is revoked, and the
//! next request fails closed with the primary's own error; access is granted again, and it works again.

mod chat;
mod programs;
mod relay;
mod world;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mcpctl_failover::Access;

use crate::{
    engines::llama_server::{self, LlamaServer},
    say::Say,
};
use chat::Told;
use world::{LLM, PROVIDER, World};

/// What the demo can be told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything running at the end, and say how to use it
    #[arg(long, conflicts_with = "headless")]
    keep: bool,
    /// Print plainly, for logs
    #[arg(long)]
    headless: bool,
}

/// How long the traffic may take to return once the centre is back: the breaker's rest and then some.
const RETURN: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &Args) -> Result<()> {
    let say = Say::new(args.headless);
    say.title("mcpctl: a local model stands in for a central one, exactly while the centre allows it");
    say.note("building the programs");
    crate::cargo::build_programs()?;
    let model = llama_server::fetch(&say)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(tell(&say, model, args.keep));
    // What was started is ended by now, also when a step did not hold.
    ended?;
    say.good("every step held");
    Ok(())
}

async fn tell(say: &Say, model: LlamaServer, keep: bool) -> Result<()> {
    let mut world = World::build(say, model).await?;

    say.step("a central answer");
    say.text("mcplocal forwards to mcpd, mcpd to the provider. Nothing local runs.");
    expect_central(&world.chat(say).await?)?;
    ensure!(world.engine().await?.state == "stopped", "the local engine ran although nobody needed it");

    say.step("the provider dies, the local model takes over");
    world.kill_provider(say);
    say.text("mcpd cannot reach the provider. mcplocal asks mcpd whether this user may still see the Llm, and starts its own model.");
    expect_local(&world.chat(say).await?)?;

    say.step("the provider returns, and so does the traffic");
    world.start_provider(say).await?;
    until_central(say, &world).await?;

    say.step("the network path to inference is cut");
    world.cut(say).await;
    say.text(
        "mcpd still answers questions, but inference does not get there. The local model takes over again.",
    );
    expect_local(&world.chat(say).await?)?;

    say.step("the administrator revokes the Llm");
    let before = world.engine().await?;
    world.revoke(say)?;
    let access = world.probe().await?;
    say.seen(&format!("the probe says: {access}"));
    ensure!(access == Access::Forbidden, "the probe should say forbidden, it said {access}");
    say.text("The path is still cut, so the primary fails as before. This time nothing may stand in for it.");
    expect_primary_error(&world.chat(say).await?)?;
    let after = world.engine().await?;
    ensure!(after.in_flight == 0, "the local engine works on something");
    ensure!(world.engine_completions(&before) == 0, "the local engine answered although it may not");
    say.seen("the local engine stayed idle");
    let last = world.last_failover().await?;
    ensure!(last.outcome == "refused", "the journal says `{}` instead of `refused`", last.outcome);
    ensure!(last.access == ["forbidden"], "the journal says {:?} instead of forbidden", last.access);
    say.seen("the journal says: refused, forbidden");

    say.step("access is granted again");
    world.grant(say)?;
    expect_local(&world.chat(say).await?)?;

    say.step("the network path is mended");
    world.mend(say).await?;
    until_central(say, &world).await?;

    if keep {
        world.say_how_to_use(say)?;
        tokio::signal::ctrl_c().await?;
    }
    world.end(say).await
}

fn expect_central(told: &Told) -> Result<()> {
    match told {
        Told::Answer { served_by, text } => {
            ensure!(served_by.failover.is_none(), "a local model answered instead of the centre");
            ensure!(served_by.name.as_deref() == Some(LLM), "answered by {:?}", served_by.name);
            ensure!(!text.is_empty(), "the answer is empty");
            Ok(())
        }
        Told::Error { message, .. } => bail!("no answer: {message}"),
    }
}

fn expect_local(told: &Told) -> Result<()> {
    match told {
        Told::Answer { served_by, text } => {
            ensure!(served_by.failover.is_some(), "the centre answered although it should not be able to");
            ensure!(served_by.name.as_deref() == Some(PROVIDER), "answered by {:?}", served_by.name);
            ensure!(!text.is_empty(), "the answer is empty");
            Ok(())
        }
        Told::Error { message, .. } => bail!("no answer: {message}"),
    }
}

fn expect_primary_error(told: &Told) -> Result<()> {
    match told {
        Told::Answer { .. } => bail!("there was an answer although the Llm is revoked"),
        Told::Error { status, code, .. } => {
            ensure!(*status == 502, "status {status} instead of the primary's 502");
            ensure!(code == "connect", "code `{code}` instead of the primary's `connect`");
            Ok(())
        }
    }
}

/// The centre may rest for some seconds after it failed often, so the traffic returns by itself but not at once.
async fn until_central(say: &Say, world: &World) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let told = world.chat(say).await?;
        if expect_central(&told).is_ok() {
            return Ok(());
        }
        ensure!(begun.elapsed() < RETURN, "the traffic did not return within {} s", RETURN.as_secs());
        say.text("the centre rests for a few seconds after it failed often; once more");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
