//! Where a sign-in leads: a page of the console, and nothing else.

use serde::Deserialize;
use url::form_urlencoded;

/// Longest path that is kept, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// The page after a sign-in that began at none.
const START: &str = "/console/";
/// Characters of names that pages write encoded in paths: `@`, `+` and `:`. Browsers and mcpd decode others to what leads elsewhere.
const ENCODED: [&str; 3] = ["40", "2B", "3A"];

/// The path and query of a page of the console.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct ReturnPath(String);

impl ReturnPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of the sign-in that leads there.
    pub fn sign_in(&self) -> String {
        let query: String = form_urlencoded::byte_serialize(self.0.as_bytes()).collect();
        if self.0 == START {
            "/console/sign-in".to_owned()
        } else {
            format!("/console/sign-in?return_to={query}")
        }
    }
}

impl Default for ReturnPath {
    fn default() -> Self {
        Self(START.to_owned())
    }
}

/// Anything else becomes the start page: a foreign address in a link must not look like one of ours.
impl From<String> for ReturnPath {
    fn from(text: String) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?&=+,:!*()'".contains(&byte);
        let path = text.split('?').next().unwrap_or_default();
        let of_name = |rest: &str| {
            rest.get(..2).is_some_and(|code| ENCODED.iter().any(|name| name.eq_ignore_ascii_case(code)))
        };
        let is_page = text.len() <= MAX_PATH_BYTES
            && text.bytes().all(is_plain)
            && text.starts_with(START)
            && !path.contains("//")
            && path.split('%').skip(1).all(of_name)
            && !path.split('/').any(|segment| segment == "." || segment == "..")
            // They begin and end sessions themselves.
            && !path.starts_with("/console/sign-");
        if is_page { Self(text) } else { Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_are_returned_to() {
        let kept = |text: &str| ReturnPath::from(text.to_owned()).0 == text;
        for good in [
            "/console/",
            "/console/llms",
            "/console/llms/gpt-4.1?after=a%20b&limit=5",
            "/console/people/user/ann%40example.com",
            "/console/llms/a%2bb%3Ac",
        ] {
            assert!(kept(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "/api/v1/users",
            "//evil.example/console/",
            "https://evil.example/console/",
            "/console//evil.example",
            "/console/../api/v1/users",
            "/console/\\evil.example",
            "/console/\r\nset-cookie: a=b",
            "/console/sign-out",
            "/console/sign-in",
            "/consoles/",
            "/console/%2e%2e/%2e%2e/evil",
            "/console/%2E./api",
            "/console/%73ign-out",
            "/console/llms%2f..%2fx",
            "/console/llms/%",
            "/console/llms/%4",
            "/console/llms/%0d%0ax?a=b",
            "/console/#x",
        ] {
            assert!(!kept(bad), "{bad}");
        }
        assert!(!kept(&format!("/console/{}", "a".repeat(MAX_PATH_BYTES))));
    }
}
