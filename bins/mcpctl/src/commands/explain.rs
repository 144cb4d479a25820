//! `mcpctl explain`: the fields of a kind, from the types that the OpenAPI document is made of. Needs no server.

use std::process::ExitCode;

use mcpctl_api::{
    schema::{Field, KindSchema, UnknownField},
    vocabulary::{FLAT, WRAPPERS},
};

use super::targets::known_kind;
use crate::{
    Outcome,
    failure::Failure,
    output::{
        self, Tone,
        jsonpath::show,
        terminal::{width, wrap},
    },
    suggest::did_you_mean,
};

/// Lines of text are this wide where there is more room.
const MAX_WIDTH: u16 = 100;

/// What to explain.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, or a field of it, e.g. llm or llm.targets.url
    #[arg(value_name = "KIND[.FIELD]...")]
    path: String,
    /// Show the names and types of all fields below it
    #[arg(long, short)]
    recursive: bool,
}

/// Explains a kind or a field.
pub fn run(args: &Args) -> Outcome {
    let mut keys = args.path.split('.').filter(|key| !key.is_empty()).map(|key| key.trim_end_matches("[]"));
    let word = keys.next().unwrap_or_default();
    let kind = known_kind(word)?;
    let keys: Vec<&str> = keys.collect();
    let Some(schema) = KindSchema::of(kind) else {
        return Err(Failure::usage(format!("there are no documents of {}", kind.plural())));
    };
    let field = schema.field(&keys).map_err(|unknown| failure(word, &unknown))?;
    data!(Tone::Title, "KIND: "; " {kind}")?;
    if !keys.is_empty() {
        data!(Tone::Title, "FIELD:"; " {} <{}>{}", keys.join("."), field.type_name, flags(&field))?;
    }
    if !args.recursive {
        paragraph("DESCRIPTION:", &field.description)?;
        details(&field, "  ")?;
    }
    if !field.fields.is_empty() {
        data!("")?;
        data!(Tone::Title, "FIELDS:"; "")?;
        fields(&field, args.recursive, 1)?;
    }
    if let (Some(example), true, false) = (schema.example(), keys.is_empty(), args.recursive) {
        data!("")?;
        data!(Tone::Title, "EXAMPLE:"; "")?;
        output::yaml(example)?.trim_end().lines().try_for_each(|line| data!("  {line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(kind: &str, unknown: &UnknownField) -> Failure {
    let parent =
        if unknown.parent.is_empty() { kind.to_owned() } else { format!("{kind}.{}", unknown.parent) };
    let failure = Failure::usage(format!("`{parent}` has no field `{}`", unknown.key));
    if unknown.parent.is_empty() && WRAPPERS.contains(&unknown.key.as_str()) {
        return failure.hint(FLAT);
    }
    if unknown.known.is_empty() {
        return failure.hint("it has no fields below it");
    }
    let known = unknown.known.iter().map(String::as_str);
    let hint =
        did_you_mean(&unknown.key, known).unwrap_or_else(|| format!("it has {}", unknown.known.join(", ")));
    failure.hint(hint)
}

fn flags(field: &Field) -> &'static str {
    match (field.required, field.read_only) {
        (true, _) => " -required-",
        (false, true) => " (set by mcpd)",
        (false, false) => "",
    }
}

fn fields(field: &Field, recursive: bool, depth: usize) -> Result<(), Failure> {
    let indent = "  ".repeat(depth);
    for below in &field.fields {
        data!(Tone::Title, &format!("{indent}{}", below.name); "  <{}>{}", below.type_name, flags(below))?;
        if recursive {
            fields(below, true, depth + 1)?;
            continue;
        }
        lines(&format!("{indent}  "), &below.description)?;
        details(below, &format!("{indent}  "))?;
    }
    Ok(())
}

/// What a field takes, where that is known.
fn details(field: &Field, indent: &str) -> Result<(), Failure> {
    if !field.choices.is_empty() {
        lines(indent, &format!("one of: {}", field.choices.join(", ")))?;
    }
    if let Some(default) = &field.default {
        lines(indent, &format!("default: {}", show(default)))?;
    }
    match &field.example {
        // A whole document has a part of its own.
        Some(example) if !field.name.is_empty() => lines(indent, &format!("e.g. {}", show(example))),
        _ => Ok(()),
    }
}

fn paragraph(title: &str, text: &str) -> Result<(), Failure> {
    data!("")?;
    data!(Tone::Title, title; "")?;
    lines("  ", text)
}

fn lines(indent: &str, text: &str) -> Result<(), Failure> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let indented = u16::try_from(indent.len()).unwrap_or_default();
    let width = width().unwrap_or(MAX_WIDTH).min(MAX_WIDTH).saturating_sub(indented);
    wrap(&text, Some(width)).iter().try_for_each(|line| data!("{indent}{line}"))
}
