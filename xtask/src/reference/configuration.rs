//! The keys of the configuration files, from the structs that read them: type and meaning of the fields, and what they are by
//! default. A key without a meaning or a default, unless it is required, or of a type that has no words here, is an error.

use std::{collections::HashMap, path::Path};

use anyhow::{Context as _, Result, bail};
use syn::{Expr, GenericArgument, Lit, PathArguments, Type};

use super::{
    source::{self, Definition, Field, Struct, attribute_text, camel, has_flag},
    table,
};

/// A file, its title, and the struct that reads it.
struct File {
    title: &'static str,
    about: &'static str,
    name: &'static str,
    /// Where that struct is, and the types of its fields, in the order in which they are looked for.
    sources: &'static [&'static str],
    /// Options with the same meaning, whose documentation a field without its own has.
    options: &'static [(&'static str, &'static str)],
}

const FILES: [File; 3] = [
    File {
        title: "mcpd",
        about: "The file of `mcpd serve --config FILE`; the Debian package's is `/etc/mcpd/mcpd.yaml`. It is read at the start.",
        name: "File",
        sources: &[
            "bins/mcpd/src/config.rs",
            "bins/mcpd/src/config/tls.rs",
            "bins/mcpd/src/config/upstream.rs",
            "bins/mcpd/src/config/oidc.rs",
            "bins/mcpd/src/config/oidc/auto_create.rs",
            "bins/mcpd/src/config/exchange.rs",
            "bins/mcpd/src/config/limits.rs",
            "bins/mcpd/src/config/limits/logins.rs",
            "bins/mcpd/src/config/limits/records.rs",
            "bins/mcpd/src/config/limits/journal.rs",
            "bins/mcpd/src/config/limits/captures.rs",
            "crates/store/src/durability.rs",
            "crates/telemetry/src/log.rs",
            "crates/telemetry/src/otlp.rs",
        ],
        options: &[("bins/mcpd/src/config.rs", "ServeArgs"), ("bins/mcpd/src/config/tls.rs", "TlsArgs")],
    },
    File {
        title: "mcplocal",
        about: "`~/.config/mcpctl/mcplocal.yaml`, or the file of `--config`. It is read again when it changes; `listen`, `limits` and `telemetry` take effect at the next start.",
        name: "ConfigFile",
        sources: &[
            "bins/mcplocal/src/config.rs",
            "bins/mcplocal/src/config/limits.rs",
            "bins/mcplocal/src/config/primary.rs",
            "bins/mcplocal/src/config/provider.rs",
            "bins/mcplocal/src/config/provider/entry.rs",
            "bins/mcplocal/src/capabilities.rs",
            "crates/api/src/spec/llm/fallback.rs",
            "crates/failover/src/class.rs",
            "crates/telemetry/src/otlp.rs",
        ],
        options: &[],
    },
    File {
        title: "mcpctl",
        about: "`~/.config/mcpctl/config.yaml`, mode 0600, which `mcpctl login`, `logout` and `config` write; there is no need to write it by hand.",
        name: "Config",
        sources: &["crates/client/src/config.rs"],
        options: &[],
    },
];

/// Types that have another name where they are defined: the name in a field, the file, and the name there.
const RENAMED: [(&str, &str, &str); 3] = [
    ("HttpLimits", "crates/server/src/limits.rs", "Limits"),
    ("mcpctl_server::Limits", "crates/server/src/limits.rs", "Limits"),
    ("AutoCreate", "bins/mcpd/src/config/oidc/auto_create.rs", "Written"),
];
/// Types whose key is a switch too: what it takes besides the keys below it.
const SWITCHES: [(&str, &str); 1] = [("AutoCreate", "`true`, `false`, or these keys")];

/// The default of a key that may be left out, and of one that may not.
const NONE: &str = "none";
const REQUIRED: &str = "required";

/// What a value looks like, by the type that reads it.
const FORMS: [(&str, &str); 25] = [
    ("PathBuf", "path"),
    ("SocketAddr", "address and port"),
    ("String", "text"),
    ("Text", "text"),
    ("Scope", "text"),
    ("bool", "`true`, `false`"),
    ("u32", "number"),
    ("NonZeroU32", "number"),
    ("f64", "number"),
    ("HumanDuration", "duration, `30s`"),
    ("DrainDelay", "duration, `30s`"),
    ("AbandonAfter", "duration, or `never`"),
    ("ByteSize", "size, `64MiB`"),
    ("MemorySize", "size, `18GiB`"),
    ("Rate", "`{burst, every}`"),
    ("Url", "URL"),
    ("IssuerUrl", "URL"),
    ("OtlpUrl", "URL"),
    ("Origin", "origin, `https://app.example.com`"),
    ("Name", "name"),
    ("PublicHost", "host name"),
    ("LogFilter", "level, or levels of parts, `info,mcpctl_engine=debug`"),
    ("IpNet", "network, `10.0.0.0/24`"),
    ("Timestamp", "time"),
    ("PublicKey", "public key"),
];
/// As `FORMS`, of types whose values are lists or more.
const OTHER_FORMS: [(&str, &str); 5] = [
    ("TrustedProxies", "list of addresses and networks"),
    ("ProviderType", "`openai`, `anthropic`, `llama-server-managed`, `vllm-managed`"),
    ("OneOrMany", "name, or list of names"),
    ("Subject", "`{kind, name}`"),
    ("SecretValue", "text"),
];

/// The page.
pub(super) fn page(root: &Path) -> Result<String> {
    let mut text = String::new();
    for file in &FILES {
        let mut reader = Reader { root, file, rows: Vec::new() };
        let source = *file.sources.first().context("a file without a source")?;
        reader.rows_of(source, file.name, &Above::default())?;
        let table = table(&["key", "value", "default", "meaning"], reader.rows);
        text.push_str(&format!("## {}\n\n{}\n\n{table}\n", file.title, file.about));
    }
    Ok(text)
}

/// What is above the keys of a struct.
#[derive(Default)]
struct Above {
    /// What their names begin with.
    prefix: String,
    /// The documentation of the key that they are below.
    about: String,
    /// What that key is by default, by field.
    set: HashMap<String, Expr>,
}

/// The rows of one file.
struct Reader<'a> {
    root: &'a Path,
    file: &'a File,
    rows: Vec<Vec<String>>,
}

/// The type of a field, without what only reads it.
struct Kind {
    name: String,
    /// `list: `, `by name: `, or nothing.
    many: &'static str,
    is_optional: bool,
}

/// What the values of a key are.
enum Values {
    /// Keys of their own, of a struct of a file; what is between the two in a key: `.`, `[].` or `.NAME.`.
    Keys(&'static str, String, &'static str),
    /// This.
    Form(String),
}

impl Reader<'_> {
    /// A row of each key of a struct, and of those below it.
    fn rows_of(&mut self, source: &'static str, name: &str, above: &Above) -> Result<()> {
        let found = source::structure(self.root, source, name)?;
        for field in &found.fields {
            let key =
                attribute_text(&field.attributes, "serde", "rename").unwrap_or_else(|| camel(&field.name));
            let key = format!("{}{key}", above.prefix);
            let kind = inner(&field.kind);
            let values = self.values(source, &kind).with_context(|| format!("{source}: `{}`", field.name))?;
            let set = above.set.get(&field.name).or_else(|| found.defaults.get(&field.name));
            let switch = SWITCHES.iter().find(|(known, _)| *known == kind.name);
            let form = match (&values, switch) {
                (Values::Form(form), _) => Some(form.as_str()),
                (Values::Keys(..), Some((_, form))) => Some(*form),
                (Values::Keys(..), None) => None,
            };
            if let Some(form) = form {
                let (doc, default) = self.explained(field, name, &found, set, &kind, form)?;
                // "Of one account" is a meaning only beside what it is about.
                let doc = match doc.strip_prefix("Of ") {
                    Some(rest) => format!("{}: of {rest}", above.about.trim_end_matches('.')),
                    None => doc,
                };
                self.row(&key, form, &default, &doc);
            }
            if let Values::Keys(source, name, between) = values {
                let set =
                    set.map(|set| source::fields_of(resolved(set, &found.constants))).unwrap_or_default();
                let below = Above { prefix: format!("{key}{between}"), about: field.doc.clone(), set };
                self.rows_of(source, &name, &below)?;
            }
        }
        Ok(())
    }

    /// The row of a key.
    fn row(&mut self, key: &str, form: &str, default: &str, doc: &str) {
        let default = match default {
            // Words are no value.
            words
                if words == NONE || words == REQUIRED || (words.contains(' ') && !words.starts_with('{')) =>
            {
                words.to_owned()
            }
            value => format!("`{value}`"),
        };
        let doc = format!("{}.", doc.trim_end_matches('.'));
        self.rows.push(vec![format!("`{key}`"), form.to_owned(), default, doc]);
    }

    /// What a key means, and what it is by default.
    fn explained(
        &self,
        field: &Field,
        of: &str,
        found: &Struct,
        set: Option<&Expr>,
        kind: &Kind,
        form: &str,
    ) -> Result<(String, String)> {
        let doc = meaning(self.root, self.file, field, of)?;
        let (doc, written) = split_default(&doc);
        let is_left_out = found.is_default || has_flag(&field.attributes, "serde", "default");
        let default = match (written, set) {
            (Some(default), _) => Some(default),
            (None, Some(set)) => literal(set, &found.constants),
            (None, None) if kind.is_optional => Some(NONE.to_owned()),
            (None, None) if !is_left_out => Some(REQUIRED.to_owned()),
            (None, None) if kind.name == "bool" => Some("false".to_owned()),
            (None, None) if form.starts_with("list") || form.starts_with("by name") => Some(NONE.to_owned()),
            (None, None) => None,
        };
        let default = default.with_context(|| {
            format!("the default of `{}` of `{of}` is not plain to see: write `[default: …]` into its documentation", field.name)
        })?;
        Ok((doc, default))
    }

    fn values(&self, source: &'static str, kind: &Kind) -> Result<Values> {
        let many = kind.many;
        let between = if many.starts_with("by name") {
            ".NAME."
        } else if many.is_empty() {
            "."
        } else {
            "[]."
        };
        if let Some((_, source, name)) = RENAMED.iter().find(|(used, ..)| *used == kind.name) {
            return Ok(Values::Keys(source, (*name).to_owned(), between));
        }
        if let Some((_, form)) = FORMS.iter().chain(&OTHER_FORMS).find(|(known, _)| *known == kind.name) {
            return Ok(Values::Form(format!("{many}{form}")));
        }
        // The file of the field first: names are unique in one.
        for file in std::iter::once(&source).chain(self.file.sources) {
            match source::definition(&source::items(self.root, file)?, &kind.name) {
                Some(Definition::Keys) => return Ok(Values::Keys(file, kind.name.clone(), between)),
                Some(Definition::Words) => {
                    let words = source::words(self.root, file, &kind.name)?;
                    let words = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
                    return Ok(Values::Form(format!("{many}{words}")));
                }
                Some(Definition::As(other)) => return self.values(file, &inner(&other)),
                None => {}
            }
        }
        bail!("its type `{}` has no words in xtask/src/reference/configuration.rs", kind.name)
    }
}

/// What a field means: its documentation, or that of the option with its name.
fn meaning(root: &Path, file: &File, field: &Field, of: &str) -> Result<String> {
    if !field.doc.is_empty() {
        return Ok(field.doc.clone());
    }
    for (source, options) in file.options {
        let options = source::structure(root, source, options)?;
        let prefixed = format!("tls_{}", field.name);
        let names = if of == "TlsFile" { [prefixed.as_str(), ""] } else { [field.name.as_str(), ""] };
        if let Some(option) = options.fields.iter().find(|option| names.contains(&option.name.as_str())) {
            return Ok(option.doc.clone());
        }
    }
    bail!("the key `{}` of `{of}` in {} has no documentation", field.name, file.title)
}

/// A meaning without what it has in brackets for the terminal, and the default that is there.
pub(super) fn split_default(doc: &str) -> (String, Option<String>) {
    let mut text = doc.to_owned();
    let mut default = None;
    while let Some((before, rest)) = text.split_once(" [") {
        let Some((inside, after)) = rest.split_once(']') else { break };
        if let Some(value) = inside.strip_prefix("default: ") {
            let bare = value.strip_prefix('`').and_then(|value| value.strip_suffix('`'));
            default = Some(bare.filter(|bare| !bare.contains('`')).unwrap_or(value).to_owned());
        } else if !inside.starts_with("env: ") {
            break;
        }
        text = format!("{before}{after}");
    }
    (text, default)
}

/// The name of a type without what only reads it, and whether it is a list or a map.
fn inner(kind: &Type) -> Kind {
    let unknown = || Kind { name: String::new(), many: "", is_optional: false };
    let Type::Path(path) = kind else { return unknown() };
    let Some(last) = path.path.segments.last() else { return unknown() };
    let arguments: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(found) => found
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(kind) => Some(kind),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match (last.ident.to_string().as_str(), arguments.as_slice()) {
        ("Option", [of]) => Kind { is_optional: true, ..inner(of) },
        ("Spanned" | "Box", [of]) => inner(of),
        ("Vec", [of]) => Kind { many: "list: ", ..inner(of) },
        ("BTreeMap" | "HashMap", [_, of]) => {
            let of = inner(of);
            Kind { many: if of.many.is_empty() { "by name: " } else { "by name, a list: " }, ..of }
        }
        _ => {
            let segments = path.path.segments.iter().map(|segment| segment.ident.to_string());
            let name = segments.collect::<Vec<_>>().join("::");
            Kind { name: name.strip_prefix("provider::").unwrap_or(&name).to_owned(), ..unknown() }
        }
    }
}

/// An expression, or that of the constant that it names.
fn resolved<'a>(expression: &'a Expr, constants: &'a HashMap<String, Expr>) -> &'a Expr {
    match expression {
        Expr::Path(path) => constants.get(&path_text(&path.path)).unwrap_or(expression),
        _ => expression,
    }
}

fn path_text(path: &syn::Path) -> String {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}

/// What an expression of `impl Default` is in the file, where that is plain to see.
fn literal(expression: &Expr, constants: &HashMap<String, Expr>) -> Option<String> {
    match resolved(expression, constants) {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            Lit::Bool(flag) => Some(flag.value.to_string()),
            _ => None,
        },
        Expr::Path(path) if path.path.is_ident("None") => Some(NONE.to_owned()),
        Expr::MethodCall(call) if call.method == "unwrap" => literal(&call.receiver, constants),
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let arguments: Vec<String> =
                call.args.iter().map(|argument| literal(argument, constants)).collect::<Option<_>>()?;
            match (path_text(&function.path).as_str(), arguments.as_slice()) {
                ("HumanDuration::from_secs", [seconds]) => Some(format!("{seconds}s")),
                ("ByteSize::kib", [number]) => Some(format!("{number}KiB")),
                ("ByteSize::mib", [number]) => Some(format!("{number}MiB")),
                ("ByteSize::gib", [number]) => Some(format!("{number}GiB")),
                ("Rate::new", [burst, every]) => Some(format!("{{burst: {burst}, every: {every}s}}")),
                ("NonZeroU32::new", [number]) => Some(number.clone()),
                ("Vec::new", []) => Some(NONE.to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_read_from_documentation_and_code() {
        let (doc, default) = split_default("Address to listen on [default: 127.0.0.1:3100] [env: X]");
        assert_eq!((doc.as_str(), default.as_deref()), ("Address to listen on", Some("127.0.0.1:3100")));
        let constants =
            HashMap::from([("MOST".to_owned(), syn::parse_str("NonZeroU32::new(16).unwrap()").unwrap())]);
        let set = |text: &str| literal(&syn::parse_str(text).unwrap(), &constants);
        assert_eq!(set("MOST").unwrap(), "16");
        let (doc, default) = split_default("Connections [default: half of `connections`]");
        assert_eq!((doc.as_str(), default.as_deref()), ("Connections", Some("half of `connections`")));
        assert_eq!(set("Rate::new(5, 10)").unwrap(), "{burst: 5, every: 10s}");
        assert_eq!(set("ByteSize::mib(256)").unwrap(), "256MiB");
        assert_eq!(set("somewhere()"), None);
    }

    #[test]
    fn types_are_named_without_what_reads_them() {
        let named = |text: &str| {
            let kind = inner(&syn::parse_str(text).unwrap());
            (kind.name, kind.many, kind.is_optional)
        };
        assert_eq!(named("Option<Spanned<Vec<Name>>>"), ("Name".to_owned(), "list: ", true));
        assert_eq!(named("BTreeMap<String, String>"), ("String".to_owned(), "by name: ", false));
        assert_eq!(named("BTreeMap<String, Vec<String>>"), ("String".to_owned(), "by name, a list: ", false));
        assert_eq!(named("mcpctl_server::Limits"), ("mcpctl_server::Limits".to_owned(), "", false));
    }
}
