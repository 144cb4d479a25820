//! Why a request body is rejected, with the field at fault.

use std::borrow::Cow;

/// Why a body is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The body is not JSON at all.
    #[error("the request body is not valid JSON: {0}")]
    NotJson(String),
    /// The body is JSON, but not an object.
    #[error("the request body must be a JSON object")]
    NotAnObject,
    /// A required field is absent or null.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field is an empty string.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// A field has another type, or is out of range.
    #[error("`{param}` must be {expected}")]
    Wrong {
        /// The field, dotted where it is nested.
        param: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A field has another type or value than the dialect allows.
    #[error("`{param}` must be {expected}")]
    Invalid {
        /// The field with its path, for example `messages[2].content[0].type`.
        param: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A field that cannot be translated into any other dialect.
    #[error("`{param}` cannot be translated into the API that the provider of this model speaks")]
    Untranslatable {
        /// The field with its path.
        param: String,
    },
    /// A field that cannot be translated, with the reason: it needs something of the provider that translation does not have.
    #[error("`{param}` {reason}")]
    Refused {
        /// The field with its path.
        param: String,
        /// The rest of the sentence.
        reason: Cow<'static, str>,
        /// What to do instead.
        hint: &'static str,
    },
    /// A field that the provider's dialect cannot express.
    #[error("`{param}` has no counterpart in {api}, which the provider of this model speaks")]
    Unsupported {
        /// The field with its path.
        param: String,
        /// The API, for example `Anthropic's messages`.
        api: &'static str,
    },
    /// A field occurs twice, which parsers resolve differently: the upstream must read the model that was authorized.
    #[error("`{0}` is given twice")]
    Duplicate(&'static str),
    /// A key is written with escapes (`mod\u0065l`), which a parser that compares bytes does not recognize.
    #[error("`{0}` is written with escapes, which not every server resolves in a key")]
    Escaped(&'static str),
    /// A key is another spelling of a field that a decision depends on, and some parsers accept it as that field.
    #[error("`{written}` is another spelling of `{name}`, which some servers take for it")]
    Spelling {
        /// The key as the body spells it, shortened and printable.
        written: String,
        /// The field's name.
        name: &'static str,
    },
}

impl RequestError {
    /// The field at fault, for `error.param`.
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::NotJson(_) | Self::NotAnObject => None,
            Self::Spelling { written, .. } => Some(written),
            Self::Invalid { param, .. }
            | Self::Refused { param, .. }
            | Self::Untranslatable { param }
            | Self::Unsupported { param, .. } => Some(param),
            Self::Missing(param)
            | Self::Empty(param)
            | Self::Duplicate(param)
            | Self::Escaped(param)
            | Self::Wrong { param, .. } => Some(param),
        }
    }

    /// What to write instead, where the message does not contain it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Escaped(name) | Self::Spelling { name, .. } => {
                Some(format!("write `{name}` as it stands here, letter by letter"))
            }
            Self::Refused { hint, .. } => Some((*hint).to_owned()),
            _ => None,
        }
    }
}
