//! `cargo xtask model`: the model server and the model of the demo, for one's own mcplocal.yaml.

use std::io::IsTerminal as _;

use anyhow::Result;

use xtask::{
    engines::llama_server::{self, LlamaServer},
    printer::Printer,
};

/// Fetches both once; stdout has nothing but the lines of the provider.
pub(crate) fn run() -> Result<()> {
    let printer = Printer::new(!std::io::stderr().is_terminal());
    let LlamaServer { program, weights } = llama_server::fetch(&printer)?;
    anstream::println!(
        "providers:\n  - name: desk\n    type: llama-server-managed\n    command: {}\n    model: {}\n    failoverFor: gpt",
        program.display(),
        weights.display()
    );
    Ok(())
}
