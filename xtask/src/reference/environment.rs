//! The variables that the programs read: those of options, and the others by a list whose names the sources have to have.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use syn::Item;

use super::{
    configuration::split_default,
    source::{self, attribute_text},
    table,
};

/// Each program, and where its options are.
const PROGRAMS: [(&str, &[&str]); 3] = [
    ("mcpd", &["bins/mcpd/src/config.rs", "bins/mcpd/src/config/tls.rs"]),
    ("mcplocal", &["bins/mcplocal/src/main.rs"]),
    ("mcpctl", &["bins/mcpctl/src/context.rs"]),
];
/// Variables without an option: name, program, meaning, and a file that reads them.
const OTHERS: [(&str, &str, &str, &str); 8] = [
    (
        "MCPD_DATABASE_URL",
        "mcpd",
        "as `--database-url`; here the URL may hold a password",
        "bins/mcpd/src/config/database_url.rs",
    ),
    ("MCPCTL_TOKEN", "mcpctl", "the token to use, instead of the context's", "bins/mcpctl/src/context.rs"),
    (
        "XDG_CONFIG_HOME",
        "mcpctl, mcplocal",
        "the folder of `mcpctl/config.yaml` and `mcpctl/mcplocal.yaml`, instead of `~/.config`",
        "crates/client/src/config.rs",
    ),
    (
        "XDG_DATA_HOME",
        "mcpd",
        "the folder of `mcpctl/mcpd`, instead of `~/.local/share`",
        "bins/mcpd/src/config.rs",
    ),
    (
        "XDG_STATE_HOME",
        "mcpctl, mcplocal",
        "the folder of `mcplocal`: the agent's key, record and journal, instead of `~/.local/state`",
        "crates/client/src/config.rs",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "mcpd, mcplocal",
        "the collector of traces, where no other setting names one; OpenTelemetry's other variables hold too ([access log and traces](contract.md#access-log-and-traces))",
        "crates/telemetry/src/otlp.rs",
    ),
    ("NO_COLOR", "mcpctl", "no colours", "bins/mcpctl/src/examples.rs"),
    ("EDITOR", "mcpctl", "the editor of `mcpctl edit`, after `VISUAL`", "bins/mcpctl/src/commands/edit.rs"),
];

/// The page.
pub(super) fn page(root: &Path) -> Result<String> {
    let mut rows = Vec::new();
    for (program, files) in PROGRAMS {
        for file in files {
            for item in source::items(root, file)? {
                let Item::Struct(found) = item else { continue };
                for field in &found.fields {
                    let Some(name) = attribute_text(&field.attrs, "arg", "env") else { continue };
                    let option = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
                    let option = format!("`--{}`", option.replace('_', "-"));
                    rows.push(vec![
                        format!("`{name}`"),
                        program.to_owned(),
                        option,
                        sentence(&source::doc(&field.attrs)),
                    ]);
                }
            }
        }
    }
    for (name, program, meaning, file) in OTHERS {
        let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
        if !text.contains(name) {
            bail!("{file} does not read `{name}`: change the list of xtask/src/reference/environment.rs");
        }
        rows.push(vec![format!("`{name}`"), program.to_owned(), String::new(), sentence(meaning)]);
    }
    Ok(table(&["variable", "program", "option", "meaning"], rows))
}

/// A meaning as a sentence, with its default.
fn sentence(text: &str) -> String {
    let (text, default) = split_default(text);
    let mut letters = text.chars();
    let first: String = letters.next().map(|letter| letter.to_ascii_uppercase()).into_iter().collect();
    let default = default.map(|default| format!(" (default: {default})")).unwrap_or_default();
    format!("{first}{}{default}.", letters.as_str().trim_end_matches('.'))
}
