use super::*;

/// What the terminal shows at the end, without its commands; fails where pieces show anything else than the whole.
fn shown(source: &str, width: usize) -> String {
    let mut whole = Markdown::new(width);
    let all = plain(&(whole.push(source) + &whole.finish()));
    for size in [1, 2, 3, 7] {
        let mut markdown = Markdown::new(width);
        let characters: Vec<char> = source.chars().collect();
        let pieces = characters.chunks(size).map(|piece| piece.iter().collect::<String>());
        let mut text: String = pieces.map(|piece| markdown.push(&piece)).collect();
        text.push_str(&markdown.finish());
        assert_eq!(plain(&text), all, "in pieces of {size}: {source:?}");
    }
    all
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain + rest
}

#[test]
fn blocks_are_laid_out() {
    let source = "# Title\nSome *emphasised* and **strong** text with `code`.\n\n- one\n- two\n  - deeper\n\n1. first\n2. second\n\n> quoted\n\n```rust\nfn main() {}\n```\n\n| a | b |\n|---|---|\n| 1 | long |\n\n---\nend [here](https://x.example) now\n";
    insta::assert_snapshot!(shown(source, 40), @r"
    Title

    Some emphasised and strong text with
    code.

    • one
    • two
      • deeper

    1. first
    2. second

    │ quoted

    ```rust
    fn main() {}
    ```

    a   b
    1   long

    ────────────────────────────────────────

    end here (https://x.example) now
    ");
}

#[test]
fn marks_that_open_nothing_are_shown() {
    for text in [
        "2 * 3 = 6",
        "snake_case_name",
        "a [b] c",
        "an open **mark",
        "x ~ y",
        "`",
        "3.",
        "- ",
        "1986 was a year",
    ] {
        let shown = shown(text, 80);
        assert!(!shown.trim().is_empty(), "{text:?}: {shown:?}");
    }
    assert_eq!(shown("2 * 3 and snake_case", 80), "2 * 3 and snake_case\n");
}

#[test]
fn text_is_shown_before_its_line_ends() {
    let mut markdown = Markdown::new(80);
    assert_eq!(markdown.push("Hello there, wor"), "Hello there,");
    assert_eq!(markdown.push("ld and **mo"), " world and");
    assert_eq!(plain(&markdown.push("re** of")), " more");
    assert_eq!(markdown.finish(), " of\n");
    // A mark that is never closed is not waited for longer than so many bytes.
    let mut markdown = Markdown::new(80);
    let text = format!("**open {}", "word ".repeat(200));
    assert!(markdown.push(&text).starts_with("**open word"));
}

#[test]
fn commands_of_the_model_reach_no_terminal() {
    let evil = "a\x1b[2Jb \u{9b}31m `\x1b]0;x\x07` \n\n```\n\x1b[0m\u{202e}\n```\n\n| \x1b[1m | x |\n|---|---|\n| \x1b | y |\n\n# \x1b[3m\n[\x1b[4m](http://\x1b[5m)";
    let mut markdown = Markdown::new(80);
    let text: String =
        evil.chars().map(|c| markdown.push(&c.to_string())).collect::<String>() + &markdown.finish();
    // Ours are digits and semicolons before an `m`.
    for command in text.split("\x1b[").skip(1) {
        let (parameters, _) = command.split_once('m').unwrap();
        assert!(
            parameters.starts_with('0') && parameters.chars().all(|c| c.is_ascii_digit() || c == ';'),
            "{text:?}"
        );
    }
    let hidden = plain(&text).chars().find(|c| visible(*c));
    assert_eq!(hidden, None, "{text:?}");
}

fn visible(c: char) -> bool {
    mcpctl_api::visible::is_hidden(c) && c != '\n'
}

#[test]
fn wide_characters_take_two_columns() {
    let text = shown("日本語のテキストは幅が広い、とても。 emoji 🎉🎉🎉🎉🎉🎉🎉🎉 end", 20);
    for line in text.lines() {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 20, "{line}");
    }
    assert!(text.lines().count() > 2, "{text}");
    let narrow = shown("- a list with a long item that wraps\n- b", 12);
    insta::assert_snapshot!(narrow, @r"
    • a list
      with a
      long item
      that wraps
    • b
    ");
}
