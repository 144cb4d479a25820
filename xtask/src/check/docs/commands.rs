//! The commands that documents print: each is asked for its help with all its other words before that, so that an unknown
//! command, option or value is an error and nothing runs.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::Text;
use crate::check::metadata::Metadata;
use xtask::{cargo, document};

const PROGRAMS: [&str; 3] = ["mcpctl", "mcpd", "mcplocal"];
/// Blocks that hold commands.
const LANGUAGES: [&str; 3] = ["sh", "fish", "powershell"];
/// Words before a command that change nothing about it.
const KEYWORDS: [&str; 10] = ["if", "then", "else", "while", "until", "do", "!", "exec", "time", "eval"];

/// Commands that the programs reject.
pub(super) fn findings(metadata: &Metadata, documents: &[Text]) -> Result<Vec<String>> {
    cargo::build_programs()?;
    let programs = metadata.target_directory.join("debug");
    let empty_home = tempfile::tempdir()?;
    let mut seen: HashMap<Vec<String>, Option<String>> = HashMap::new();
    let mut findings = Vec::new();
    for document in documents {
        let blocks = document::blocks(&document.content).into_iter();
        for block in blocks.filter(|block| LANGUAGES.contains(&block.language.as_str())) {
            for (line, words) in commands(&block.text) {
                let error = match seen.get(&words) {
                    Some(known) => known.clone(),
                    None => rejected(&programs, &words, empty_home.path())?,
                };
                seen.insert(words.clone(), error.clone());
                if let Some(error) = error {
                    let at = format!("{}:{}", document.path, block.line + line);
                    findings.push(format!("{at}: `{}` is rejected: {error}", words.join(" ")));
                }
            }
        }
    }
    Ok(findings)
}

/// Why a program rejects a command.
fn rejected(programs: &Path, words: &[String], home: &Path) -> Result<Option<String>> {
    let Some((program, arguments)) = words.split_first() else { return Ok(None) };
    // What follows two hyphens are values, and the help would be one.
    let arguments = arguments.iter().take_while(|word| *word != "--");
    let output = Command::new(programs.join(program))
        .args(arguments)
        .arg("--help")
        .env_clear()
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{program}` cannot be started"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    let first = error.lines().next().unwrap_or_default();
    // What a variable holds is known to the shell alone.
    Ok((!output.status.success() && !first.contains('$')).then(|| first.to_owned()))
}

/// The commands of a script that run a program of ours, each with its line from 0.
fn commands(script: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (line, text) in logical_lines(script) {
        let mut simple = Vec::new();
        split(&mut text.chars().peekable(), None, &mut simple);
        found.extend(simple.into_iter().filter_map(|words| Some((line, of_ours(words)?))));
    }
    found
}

/// Lines without the bodies of here-documents, continued lines joined.
fn logical_lines(script: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut until: Option<&str> = None;
    let mut is_continued = false;
    for (number, line) in script.lines().enumerate() {
        if let Some(end) = until {
            until = (line.trim() != end).then_some(end);
            continue;
        }
        let (text, goes_on) = line.strip_suffix('\\').map_or((line, false), |text| (text, true));
        match lines.last_mut() {
            Some((_, last)) if is_continued => last.push_str(text),
            _ => lines.push((number, text.to_owned())),
        }
        is_continued = goes_on;
        let end = line.split_once("<<'").and_then(|(_, rest)| rest.split_once('\''));
        until = end.map(|(end, _)| end);
    }
    lines
}

/// Splits a line into simple commands; those of substitutions are commands of their own.
fn split(
    text: &mut std::iter::Peekable<std::str::Chars<'_>>,
    end: Option<char>,
    found: &mut Vec<Vec<String>>,
) {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    while let Some(letter) = text.next() {
        let starts_substitution = letter == '$' && text.peek() == Some(&'(') && quote != Some('\'');
        if starts_substitution {
            text.next();
            split(text, Some(')'), found);
            // Its output is a word.
            word.get_or_insert_default().push('x');
        } else if quote == Some(letter) {
            quote = None;
        } else if quote.is_some() {
            word.get_or_insert_default().push(letter);
        } else if Some(letter) == end {
            break;
        } else {
            match letter {
                '"' | '\'' => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                '#' if word.is_none() => {
                    // A comment ends with its line.
                    for _ in text.by_ref() {}
                }
                ' ' => words.extend(word.take()),
                '|' | ';' | '&' | '(' | ')' | '{' | '}' if !is_in_word(letter, word.as_ref()) => {
                    words.extend(word.take());
                    found.push(std::mem::take(&mut words));
                }
                '<' | '>' => {
                    // A descriptor's number is none of the command's words, and neither is the file.
                    word.take_if(|number| number.chars().all(|c| c.is_ascii_digit()));
                    words.extend(word.take());
                    skip_file(text);
                }
                _ => word.get_or_insert_default().push(letter),
            }
        }
    }
    words.extend(word);
    found.push(words);
}

/// Braces are part of words, as in `${name}`, unless they stand alone.
fn is_in_word(letter: char, word: Option<&String>) -> bool {
    "{}".contains(letter) && word.is_some()
}

/// Passes over the file of a redirection.
fn skip_file(text: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while text.next_if(|letter| " <>&".contains(*letter)).is_some() {}
    while text.next_if(|letter| !" |;&)".contains(*letter)).is_some() {}
}

/// The words of a command that runs a program of ours, from that program on.
fn of_ours(words: Vec<String>) -> Option<Vec<String>> {
    let mut words = words.into_iter().peekable();
    loop {
        let word = words.peek()?.clone();
        let is_assignment = word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        });
        match word.as_str() {
            "sudo" => drop(words.by_ref().take(3).count()),
            "ssh" => drop(words.by_ref().take(2).count()),
            keyword if KEYWORDS.contains(&keyword) || is_assignment => drop(words.next()),
            program if PROGRAMS.contains(&program) => return Some(words.collect()),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(script: &str) -> Vec<String> {
        commands(script).into_iter().map(|(line, words)| format!("{line} {}", words.join("_"))).collect()
    }

    #[test]
    fn commands_of_ours_are_found_where_a_shell_runs_them() {
        assert_eq!(found("mcpctl get llms   # all\njournalctl -u mcpd -n 50\n"), ["0 mcpctl_get_llms"]);
        assert_eq!(
            found("(umask 077; mcpctl create token a --for User/a > ~/a) && mcpctl whoami | cat"),
            ["0 mcpctl_create_token_a_--for_User/a", "0 mcpctl_whoami"]
        );
        assert_eq!(found("eval \"$(mcpctl local env)\""), ["0 mcpctl_local_env"]);
        assert_eq!(
            found("for g in a b; do X=1 mcpctl create group $g; done\nsudo -u mcpd mcpd fsck"),
            ["0 mcpctl_create_group_$g", "1 mcpd_fsck"]
        );
        assert_eq!(
            found("mcpctl apply -f - <<'YAML'\nmcpctl no\nYAML\nmcpd serve > x 2>&1 &"),
            ["0 mcpctl_apply_-f_-", "3 mcpd_serve"]
        );
        assert_eq!(
            found("mcpctl patch user bob \\\n    -p 'disabled: true'"),
            ["0 mcpctl_patch_user_bob_-p_disabled: true"]
        );
    }
}
