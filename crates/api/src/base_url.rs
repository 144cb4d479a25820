//! The base address of a model server, as people write it: with or without `/v1`, with a slash too many, or copied from an
//! example together with the operation. The path of an operation is decided here, for Llms and local providers alike.

use url::Url;

use crate::spec::FieldError;

/// Ends of a path that name an operation, of OpenAI's API, Anthropic's or Ollama's own, and so no base.
const OPERATIONS: [&[&str]; 10] = [
    &["chat", "completions"],
    &["completions"],
    &["embeddings"],
    &["responses"],
    &["messages"],
    &["models"],
    &["api", "chat"],
    &["api", "generate"],
    &["api", "tags"],
    &["api", "embed"],
];

/// Providers whose documentation names more than one base, or a base without a path: the host (with a leading dot, its end),
/// the paths that people write, and the path that comes before `/chat/completions`.
const PROVIDERS: [(&str, &[&str], &str); 11] = [
    ("openrouter.ai", &["", "/api", "/v1"], "/api/v1"),
    ("api.groq.com", &["", "/openai", "/v1"], "/openai/v1"),
    ("api.fireworks.ai", &["", "/inference", "/v1"], "/inference/v1"),
    ("generativelanguage.googleapis.com", &["", "/v1", "/v1beta", "/openai"], "/v1beta/openai"),
    ("api.z.ai", &["", "/v1", "/api/paas"], "/api/paas/v4"),
    ("api.deepinfra.com", &["", "/v1", "/openai"], "/v1/openai"),
    // Its API has no version (docs.spring.io, "Perplexity Chat").
    ("api.perplexity.ai", &["", "/v1"], ""),
    (".openai.azure.com", &["", "/openai", "/v1"], "/openai/v1"),
    (".services.ai.azure.com", &["", "/openai", "/v1"], "/openai/v1"),
    ("dashscope.aliyuncs.com", &["", "/compatible-mode", "/v1"], "/compatible-mode/v1"),
    ("dashscope-intl.aliyuncs.com", &["", "/compatible-mode", "/v1"], "/compatible-mode/v1"),
];

/// The path that an operation's own follows, without a slash at its end: the one that is written, each slash once; `/v1`
/// where none is written; and what a known provider has in its place.
pub fn base_path(url: &Url) -> String {
    let written: String = segments(url).into_iter().flat_map(|segment| ["/", segment]).collect();
    let host = url.host_str().unwrap_or_default();
    let is_at = |known: &str| if known.starts_with('.') { host.ends_with(known) } else { host == known };
    let provider = PROVIDERS.iter().find(|(known, paths, _)| is_at(known) && paths.contains(&&*written));
    match provider {
        Some((_, _, path)) => (*path).to_owned(),
        None if written.is_empty() => "/v1".to_owned(),
        None => written,
    }
}

/// As [`base_path`], of Anthropic's API: `/v1` follows what is written, as in its SDKs, unless that ends with it.
pub fn anthropic_base_path(url: &Url) -> String {
    let written: String = segments(url).into_iter().flat_map(|segment| ["/", segment]).collect();
    if written.ends_with("/v1") { written } else { format!("{written}/v1") }
}

/// The path of Azure OpenAI's API, below which its versions are: up to `/openai`, whatever of the API is written behind it.
pub fn azure_base_path(url: &Url) -> String {
    let segments = segments(url);
    let before = segments.iter().position(|segment| *segment == "openai").unwrap_or(segments.len());
    let before: String = segments.into_iter().take(before).flat_map(|segment| ["/", segment]).collect();
    // What people copy as the base of the newer API of a gateway.
    format!("{}/openai", before.strip_suffix("/v1").unwrap_or(&before))
}

/// Checks that an address is a base: that it names neither an operation nor anything behind its path.
///
/// # Errors
/// What is wrong with the field `url`, with the address to write instead.
pub fn check_base(url: &Url) -> Result<(), FieldError> {
    let mut base = url.clone();
    base.set_query(None);
    base.set_fragment(None);
    let mut segments = segments(url);
    let before = segments.len();
    while let Some(operation) = OPERATIONS.iter().find(|operation| segments.ends_with(operation)) {
        segments.truncate(segments.len().saturating_sub(operation.len()));
    }
    base.set_path(&segments.join("/"));
    let wrong = if segments.len() < before {
        "is the address of an operation, and a base address is needed"
    } else if url.query().is_some() || url.fragment().is_some() {
        "has a query or a fragment, and a base address has neither"
    } else {
        return Ok(());
    };
    Err(FieldError::new("url", format!("`{url}` {wrong}")).hint(format!("write `{base}`")))
}

fn segments(url: &Url) -> Vec<&str> {
    url.path().split('/').filter(|segment| !segment.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_documented_base_give_one_path() {
        for (written, expected) in [
            (
                &["https://api.openai.com", "https://api.openai.com/v1", "https://api.openai.com//v1//"][..],
                "/v1",
            ),
            (
                &["https://openrouter.ai/api/v1", "https://openrouter.ai/api", "https://openrouter.ai"],
                "/api/v1",
            ),
            (&["https://api.groq.com/openai/v1", "https://api.groq.com/openai/"], "/openai/v1"),
            (
                &[
                    "https://generativelanguage.googleapis.com/v1beta/openai/",
                    "https://generativelanguage.googleapis.com/v1beta",
                    "https://generativelanguage.googleapis.com",
                ],
                "/v1beta/openai",
            ),
            (&["https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4/"], "/api/paas/v4"),
            (&["https://api.z.ai/api/coding/paas/v4"], "/api/coding/paas/v4"),
            (&["https://api.deepseek.com", "https://api.deepseek.com/v1"], "/v1"),
            (&["http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/"], "/v1"),
            (&["https://x.openai.azure.com", "https://x.openai.azure.com/openai/v1/"], "/openai/v1"),
            (&["https://x.openai.azure.com/openai/deployments/d"], "/openai/deployments/d"),
            (&["https://api.perplexity.ai", "https://api.perplexity.ai/v1"], ""),
            (&["https://dashscope.aliyuncs.com/compatible-mode/v1"], "/compatible-mode/v1"),
            (&["https://api.anthropic.com", "https://api.anthropic.com/v1/"], "/v1"),
            (&["https://gw.example/openai", "https://gw.example//openai/"], "/openai"),
            (&["https://openrouter.ai.example/api"], "/api"),
        ] {
            for written in written {
                let url: Url = written.parse().unwrap();
                check_base(&url).unwrap();
                assert_eq!(base_path(&url), expected, "{written}");
            }
        }
    }

    #[test]
    fn bases_of_other_apis_end_where_their_operations_begin() {
        for (written, anthropic, azure) in [
            ("https://api.anthropic.com", "/v1", "/openai"),
            ("https://api.anthropic.com/v1/", "/v1", "/openai"),
            ("https://gw.example/anthropic", "/anthropic/v1", "/anthropic/openai"),
            ("https://x.openai.azure.com/openai/v1/", "/openai/v1", "/openai"),
            ("https://gw.example/a/openai/deployments/d", "/a/openai/deployments/d/v1", "/a/openai"),
        ] {
            let url: Url = written.parse().unwrap();
            assert_eq!(
                (&*anthropic_base_path(&url), &*azure_base_path(&url)),
                (anthropic, azure),
                "{written}"
            );
        }
    }

    #[test]
    fn operation_address_is_rejected_with_its_base() {
        for (written, base) in [
            ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
            ("https://api.openai.com//v1//chat//completions/", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/completions", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/models", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/responses", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/chat/completions/chat/completions", "https://api.openai.com/v1"),
            ("http://127.0.0.1:11434/api/chat", "http://127.0.0.1:11434/"),
            ("http://127.0.0.1:11434/api/generate", "http://127.0.0.1:11434/"),
            ("https://api.openai.com/v1?x=1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1?", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1#x", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/models?x=1#y", "https://api.openai.com/v1"),
        ] {
            let error = check_base(&written.parse().unwrap()).unwrap_err();
            assert_eq!(error.hint.unwrap(), format!("write `{base}`"), "{written}");
            check_base(&base.parse().unwrap()).unwrap();
        }
    }
}
