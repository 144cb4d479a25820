//! The keys of the configuration files, from the structs that read them: type and meaning of the fields, and what they are by
//! default. A key without a meaning, or of a type that has no words here, is an error.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use syn::{Expr, GenericArgument, Lit, PathArguments, Type};

use super::{
    source::{self, Field, attribute_text, camel},
    table,
};

/// A file, its title, and the struct that reads it.
struct File {
    title: &'static str,
    about: &'static str,
    source: &'static str,
    name: &'static str,
    /// Where the types of its fields are.
    types: &'static [Known],
    /// Options with the same meaning, whose documentation a field without its own has.
    options: &'static [(&'static str, &'static str)],
}

/// A type of fields: its name there, the file, the struct or enum, and what it is.
struct Known(&'static str, &'static str, &'static str, Is);

#[derive(Clone, Copy)]
enum Is {
    /// A struct whose fields are keys.
    Keys,
    /// An enum whose variants are words.
    Words,
}

const FILES: [File; 3] = [
    File {
        title: "mcpd",
        about: "The file of `mcpd serve --config FILE`; the Debian package's is `/etc/mcpd/mcpd.yaml`. It is read at the start.",
        source: "bins/mcpd/src/config.rs",
        name: "File",
        types: &[
            Known("TlsFile", "bins/mcpd/src/config/tls.rs", "TlsFile", Is::Keys),
            Known("TelemetryConfig", "crates/telemetry/src/otlp.rs", "TelemetryConfig", Is::Keys),
            Known("UpstreamAddresses", "bins/mcpd/src/config/upstream.rs", "UpstreamAddresses", Is::Keys),
            Known("OidcEntries", "bins/mcpd/src/config/oidc.rs", "OidcEntry", Is::Keys),
            Known("AutoCreate", "bins/mcpd/src/config/oidc/auto_create.rs", "Written", Is::Keys),
            Known("TokenExchange", "bins/mcpd/src/config/exchange.rs", "TokenExchange", Is::Keys),
            Known("Issuers", "bins/mcpd/src/config/exchange.rs", "ExchangeIssuer", Is::Keys),
            Known("Limits", "bins/mcpd/src/config/limits.rs", "Limits", Is::Keys),
            Known("HttpLimits", "crates/server/src/limits.rs", "Limits", Is::Keys),
            Known("LoginLimits", "bins/mcpd/src/config/limits/logins.rs", "LoginLimits", Is::Keys),
            Known("RecordLimits", "bins/mcpd/src/config/limits/records.rs", "RecordLimits", Is::Keys),
            Known("JournalLimits", "bins/mcpd/src/config/limits/journal.rs", "JournalLimits", Is::Keys),
            Known("CaptureLimits", "bins/mcpd/src/config/limits/captures.rs", "CaptureLimits", Is::Keys),
            Known("StreamLimits", "bins/mcpd/src/config/limits.rs", "StreamLimits", Is::Keys),
            Known("WriteLimits", "bins/mcpd/src/config/limits.rs", "WriteLimits", Is::Keys),
            Known("Durability", "crates/store/src/durability.rs", "Durability", Is::Words),
        ],
        options: &[("bins/mcpd/src/config.rs", "ServeArgs"), ("bins/mcpd/src/config/tls.rs", "TlsArgs")],
    },
    File {
        title: "mcplocal",
        about: "`~/.config/mcpctl/mcplocal.yaml`, or the file of `--config`. It is read again when it changes; `listen`, `limits` and `telemetry` take effect at the next start.",
        source: "bins/mcplocal/src/config.rs",
        name: "ConfigFile",
        types: &[
            Known("ProviderEntry", "bins/mcplocal/src/config/provider/entry.rs", "ProviderEntry", Is::Keys),
            Known("Groups", "bins/mcplocal/src/config/provider/entry.rs", "GroupEntry", Is::Keys),
            Known("PrimaryEntry", "bins/mcplocal/src/config/primary.rs", "PrimaryEntry", Is::Keys),
            Known("TimeoutsEntry", "bins/mcplocal/src/config/primary.rs", "TimeoutsEntry", Is::Keys),
            Known("BreakerEntry", "bins/mcplocal/src/config/primary.rs", "BreakerEntry", Is::Keys),
            Known("FailoverEntry", "bins/mcplocal/src/config/primary.rs", "FailoverEntry", Is::Keys),
            Known("TelemetryConfig", "crates/telemetry/src/otlp.rs", "TelemetryConfig", Is::Keys),
            Known("Limits", "bins/mcplocal/src/config/limits.rs", "Limits", Is::Keys),
            Known("mcpctl_server::Limits", "crates/server/src/limits.rs", "Limits", Is::Keys),
            Known("JournalLimits", "bins/mcplocal/src/config/limits.rs", "JournalLimits", Is::Keys),
            Known("FailureClass", "crates/failover/src/class.rs", "FailureClass", Is::Words),
            Known("MidStream", "crates/api/src/spec/llm/fallback.rs", "MidStream", Is::Words),
            Known("Capability", "bins/mcplocal/src/capabilities.rs", "Capability", Is::Words),
            Known("Swap", "bins/mcplocal/src/config/provider.rs", "Swap", Is::Words),
            Known("Prewarm", "bins/mcplocal/src/config/provider.rs", "Prewarm", Is::Words),
        ],
        options: &[],
    },
    File {
        title: "mcpctl",
        about: "`~/.config/mcpctl/config.yaml`, mode 0600, which `mcpctl login`, `logout` and `config` write; there is no need to write it by hand.",
        source: "crates/client/src/config.rs",
        name: "Config",
        types: &[
            Known("Context", "crates/client/src/config.rs", "Context", Is::Keys),
            Known("ServerPins", "crates/client/src/config.rs", "ServerPins", Is::Keys),
        ],
        options: &[],
    },
];

/// What a value looks like, by the type that reads it.
const FORMS: [(&str, &str); 24] = [
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
        let mut rows = Vec::new();
        rows_of(root, file, file.source, file.name, "", &mut rows)?;
        let table = table(&["key", "value", "default", "meaning"], rows);
        text.push_str(&format!("## {}\n\n{}\n\n{table}\n", file.title, file.about));
    }
    Ok(text)
}

/// A row of each key of a struct, and of those below it.
fn rows_of(
    root: &Path,
    file: &File,
    source: &str,
    name: &str,
    prefix: &str,
    rows: &mut Vec<Vec<String>>,
) -> Result<()> {
    let found = source::structure(root, source, name)?;
    for field in &found.fields {
        let key = attribute_text(&field.attributes, "serde", "rename").unwrap_or_else(|| camel(&field.name));
        let key = format!("{prefix}{key}");
        let (kind, many) = inner(&field.kind, "");
        let known = file.types.iter().find(|known| known.0 == kind);
        if let Some(Known(_, source, name, Is::Keys)) = known {
            let many = match kind.as_str() {
                "OidcEntries" | "Issuers" => "[].",
                "Groups" => ".NAME.",
                _ if many.is_empty() => ".",
                _ => "[].",
            };
            rows_of(root, file, source, name, &format!("{key}{many}"), rows)?;
            continue;
        }
        let form = match known {
            Some(Known(_, source, name, _)) => {
                let words = source::words(root, source, name)?;
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            None => {
                let forms = FORMS.iter().chain(&OTHER_FORMS);
                let form =
                    forms.clone().find(|(known, _)| *known == kind).map(|(_, form)| (*form).to_owned());
                form.with_context(|| format!("{source}: `{}` is a `{kind}`, which has no words in xtask/src/reference/configuration.rs", field.name))?
            }
        };
        let doc = meaning(root, file, field, name)?;
        let (doc, default) = split_default(&doc);
        let default = match (default, found.defaults.get(&field.name)) {
            (Some(default), _) => default,
            (None, Some(set)) => literal(set).unwrap_or_default(),
            (None, None) => String::new(),
        };
        let default = match default.as_str() {
            "" => default,
            // Words are no value.
            words if words.contains(' ') && !words.starts_with('{') => default,
            value => format!("`{value}`"),
        };
        let doc = format!("{}.", doc.trim_end_matches('.'));
        rows.push(vec![format!("`{key}`"), format!("{many}{form}"), default, doc]);
    }
    Ok(())
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
    bail!("{}: the key `{}` of `{of}` has no documentation", file.source, field.name)
}

/// A meaning without what it has in brackets for the terminal, and the default that is there.
pub(super) fn split_default(doc: &str) -> (String, Option<String>) {
    let mut text = doc.to_owned();
    let mut default = None;
    while let Some((before, rest)) = text.split_once(" [") {
        let Some((inside, after)) = rest.split_once(']') else { break };
        if let Some(value) = inside.strip_prefix("default: ") {
            default = Some(value.trim_matches('`').to_owned());
        } else if !inside.starts_with("env: ") {
            break;
        }
        text = format!("{before}{after}");
    }
    (text, default)
}

/// The name of a type without what only reads it, and whether it is a list or a map.
fn inner(kind: &Type, many: &'static str) -> (String, &'static str) {
    let Type::Path(path) = kind else { return (String::new(), many) };
    let Some(last) = path.path.segments.last() else { return (String::new(), many) };
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
        ("Option" | "Spanned" | "Box", [of]) => inner(of, many),
        ("Vec", [of]) => inner(of, if many == "by name: " { "by name, a list: " } else { "list: " }),
        ("BTreeMap" | "HashMap", [_, of]) => inner(of, "by name: "),
        _ => {
            let segments = path.path.segments.iter().map(|segment| segment.ident.to_string());
            let name = segments.collect::<Vec<_>>().join("::");
            (name.strip_prefix("provider::").unwrap_or(&name).to_owned(), many)
        }
    }
}

/// What an expression of `impl Default` is in the file, where that is plain to see.
fn literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => Some(number.base10_digits().to_owned()),
            Lit::Bool(flag) => Some(flag.value.to_string()),
            _ => None,
        },
        Expr::Call(call) => {
            let Expr::Path(function) = &*call.func else { return None };
            let segments = function.path.segments.iter().map(|segment| segment.ident.to_string());
            let function = segments.collect::<Vec<_>>().join("::");
            let arguments: Vec<String> = call.args.iter().map(literal).collect::<Option<_>>()?;
            match (function.as_str(), arguments.as_slice()) {
                ("HumanDuration::from_secs", [seconds]) => Some(format!("{seconds}s")),
                ("ByteSize::kib", [number]) => Some(format!("{number}KiB")),
                ("ByteSize::mib", [number]) => Some(format!("{number}MiB")),
                ("ByteSize::gib", [number]) => Some(format!("{number}GiB")),
                ("Rate::new", [burst, every]) => Some(format!("{{burst: {burst}, every: {every}s}}")),
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
        let set = |text: &str| literal(&syn::parse_str(text).unwrap());
        assert_eq!(set("Rate::new(5, 10)").unwrap(), "{burst: 5, every: 10s}");
        assert_eq!(set("ByteSize::mib(256)").unwrap(), "256MiB");
        assert_eq!(set("somewhere()"), None);
    }

    #[test]
    fn types_are_named_without_what_reads_them() {
        let named = |text: &str| inner(&syn::parse_str(text).unwrap(), "");
        assert_eq!(named("Option<Spanned<Vec<Name>>>"), ("Name".to_owned(), "list: "));
        assert_eq!(named("BTreeMap<String, String>"), ("String".to_owned(), "by name: "));
        assert_eq!(named("mcpctl_server::Limits"), ("mcpctl_server::Limits".to_owned(), ""));
    }
}
