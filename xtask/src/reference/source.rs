//! What is read from the sources: documentation, structs with their defaults, and the attributes of serde and clap.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context as _, Result};
use syn::{Attribute, Expr, ExprLit, Fields, ImplItem, Item, Lit, Meta, Token, Type, punctuated::Punctuated};

/// A struct whose fields have names.
pub(super) struct Struct {
    pub(super) fields: Vec<Field>,
    /// What `impl Default` sets, by field.
    pub(super) defaults: HashMap<String, Expr>,
    /// Whether serde takes the default of a field that is left out.
    pub(super) is_default: bool,
    /// The constants of its file, those of a type with its name: `StreamLimits::FEEDS`.
    pub(super) constants: HashMap<String, Expr>,
}

pub(super) struct Field {
    /// As in the source.
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) doc: String,
    pub(super) attributes: Vec<Attribute>,
}

/// The items of a file.
pub(super) fn items(root: &Path, file: &str) -> Result<Vec<Item>> {
    let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
    Ok(syn::parse_file(&text).with_context(|| file.to_owned())?.items)
}

/// A struct of a file.
pub(super) fn structure(root: &Path, file: &str, name: &str) -> Result<Struct> {
    let items = items(root, file)?;
    let found = items.iter().find_map(|item| match item {
        Item::Struct(found) if found.ident == name => Some(found),
        _ => None,
    });
    let found = found.with_context(|| format!("{file}: no struct `{name}`"))?;
    let Fields::Named(named) = &found.fields else { anyhow::bail!("{file}: `{name}` has no named fields") };
    let fields = named.named.iter().filter_map(|field| {
        let name = field.ident.as_ref()?.to_string();
        let doc = doc(&field.attrs);
        Some(Field { name, kind: field.ty.clone(), doc, attributes: field.attrs.clone() })
    });
    Ok(Struct {
        fields: fields.collect(),
        defaults: defaults(&items, name),
        is_default: has_flag(&found.attrs, "serde", "default"),
        constants: constants(&items),
    })
}

/// What a type of a file is.
pub(super) enum Definition {
    /// A struct whose fields are keys.
    Keys,
    /// An enum whose variants are words.
    Words,
    /// Another name of a type, or a struct that is read from one.
    As(Box<Type>),
}

/// What the type of a name is, where it is in these items and serde reads it by its shape.
pub(super) fn definition(items: &[Item], name: &str) -> Option<Definition> {
    items.iter().find_map(|item| match item {
        Item::Struct(found) if found.ident == name => match attribute_text(&found.attrs, "serde", "try_from")
        {
            Some(from) => syn::parse_str(&from).ok().map(|kind| Definition::As(Box::new(kind))),
            None if matches!(found.fields, Fields::Named(_)) => Some(Definition::Keys),
            None => None,
        },
        Item::Enum(found) if found.ident == name => Some(Definition::Words),
        Item::Type(found) if found.ident == name => Some(Definition::As(found.ty.clone())),
        _ => None,
    })
}

/// The constants of a file.
fn constants(items: &[Item]) -> HashMap<String, Expr> {
    let mut found = HashMap::new();
    for item in items {
        match item {
            Item::Const(one) => drop(found.insert(one.ident.to_string(), (*one.expr).clone())),
            Item::Impl(block) => {
                let Type::Path(me) = &*block.self_ty else { continue };
                let Some(me) = me.path.get_ident() else { continue };
                for one in &block.items {
                    if let ImplItem::Const(one) = one {
                        found.insert(format!("{me}::{}", one.ident), one.expr.clone());
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// The fields of an expression that makes a struct.
pub(super) fn fields_of(expression: &Expr) -> HashMap<String, Expr> {
    let Expr::Struct(made) = expression else { return HashMap::new() };
    let fields = made.fields.iter().filter_map(|field| {
        let syn::Member::Named(member) = &field.member else { return None };
        Some((member.to_string(), field.expr.clone()))
    });
    fields.collect()
}

/// The words of an enum of a file as serde reads them, in its order.
pub(super) fn words(root: &Path, file: &str, name: &str) -> Result<Vec<String>> {
    let found = items(root, file)?.into_iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let found = found.with_context(|| format!("{file}: no enum `{name}`"))?;
    let case = attribute_text(&found.attrs, "serde", "rename_all").unwrap_or_default();
    let words = found.variants.iter().map(|variant| {
        let word = variant.ident.to_string();
        match case.as_str() {
            "snake_case" => snake(&word),
            "lowercase" => word.to_lowercase(),
            _ => lower_first(&word),
        }
    });
    Ok(words.collect())
}

/// The fields that `impl Default` of a struct sets.
fn defaults(items: &[Item], name: &str) -> HashMap<String, Expr> {
    let bodies = items.iter().filter_map(|item| {
        let Item::Impl(found) = item else { return None };
        let (_, of, _) = found.trait_.as_ref()?;
        let Type::Path(me) = &*found.self_ty else { return None };
        (of.is_ident("Default") && me.path.is_ident(name)).then_some(&found.items)
    });
    let ends = bodies.flatten().filter_map(|item| {
        let ImplItem::Fn(function) = item else { return None };
        match function.block.stmts.last() {
            Some(syn::Stmt::Expr(made, None)) => Some(fields_of(made)),
            _ => None,
        }
    });
    ends.flatten().collect()
}

/// The documentation of an item, its lines joined.
pub(super) fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => text_of(&pair.value),
        _ => None,
    });
    lines.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// A text that is a literal.
pub(super) fn text_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

/// Whether `#[attribute(…)]` has a key, with a value or without.
pub(super) fn has_flag(attributes: &[Attribute], attribute: &str, key: &str) -> bool {
    let named = attributes.iter().filter(|candidate| candidate.path().is_ident(attribute));
    let inner =
        named.filter_map(|found| found.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok());
    inner.flatten().any(|meta| meta.path().is_ident(key))
}

/// The text of `key = "text"` in `#[attribute(…)]`.
pub(super) fn attribute_text(attributes: &[Attribute], attribute: &str, key: &str) -> Option<String> {
    let named = attributes.iter().filter(|candidate| candidate.path().is_ident(attribute));
    let inner =
        named.filter_map(|found| found.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok());
    inner.flatten().find_map(|meta| match meta {
        Meta::NameValue(pair) if pair.path.is_ident(key) => text_of(&pair.value),
        _ => None,
    })
}

/// `maxModelLen` of `max_model_len`.
pub(super) fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let mut letters = part.chars();
        let upper = letters.next().map(|letter| letter.to_ascii_uppercase());
        text + &upper.into_iter().collect::<String>() + letters.as_str()
    })
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().collect::<String>() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_serde_reads_them() {
        assert_eq!(camel("max_model_len"), "maxModelLen");
        assert_eq!(camel("listen"), "listen");
        assert_eq!(snake("NoFirstToken"), "no_first_token");
        assert_eq!(lower_first("OnTrouble"), "onTrouble");
    }
}
