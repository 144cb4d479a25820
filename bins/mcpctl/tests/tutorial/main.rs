//! The tutorial, run in one shell as it is printed, with real programs, a real llama-server and the official client of OpenAI. What a
//! block of text prints after a block of commands has to appear.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod terminal;

/// Named for what it needs: `cargo xtask test` fetches llama-server for tests of this name.
mod llama_server {
    use crate::terminal::Terminal;

    #[tokio::test]
    async fn tutorial_goes_as_it_is_printed() {
        let document = "docs/tutorial.md";
        let mut terminal = Terminal::open().await;
        let mut printed = String::new();
        let mut commands = 0;
        for block in xtask::document::blocks_of(document) {
            let place = format!("{document}:{}", block.line);
            match block.language.as_str() {
                "sh" => {
                    printed = terminal.run(&place, &block.text).await;
                    commands += 1;
                }
                "text" => terminal.check_printed(&place, &block.text, &printed),
                // A block of `bash` installs Codex, which takes 400 MB of disk; `cargo xtask test clients` runs Codex.
                _ => {}
            }
        }
        assert!(commands > 0, "{document} has no commands");
        terminal.close().await;
    }
}
