//! Reads the parts of a message or of a tool's output.

use serde_json::Value;

use super::state;
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Media, Part},
        fields::{Fields, entries},
    },
};

/// Reads the member `name`: a text, or a list of parts, with their paths. Absent content has no parts.
pub(super) fn read(of: &mut Fields, name: &str) -> Result<Vec<(String, Part)>, RequestError> {
    match of.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![(of.path(name), Part::Text(text))]),
        Some(Value::Array(list)) => entries(&of.path(name), list)
            .into_iter()
            .map(|(path, value)| Ok((path.clone(), part(Fields::of(path, value)?)?)))
            .collect(),
        Some(_) => Err(of.wrong(name, "a string or a list of parts")),
    }
}

fn part(mut fields: Fields) -> Result<Part, RequestError> {
    let kind = fields.required_text("type")?;
    let part = match kind.as_str() {
        "input_text" | "text" => Part::Text(fields.required_text("text")?),
        "output_text" => {
            // Citations and probabilities of an earlier answer, which no provider reads again.
            fields.drop_hints(&["annotations", "logprobs"]);
            Part::Text(fields.required_text("text")?)
        }
        "refusal" => Part::Refusal(fields.required_text("refusal")?),
        "input_image" => image(&mut fields)?,
        "input_file" => document(&mut fields)?,
        "input_audio" => audio(&mut fields)?,
        _ => return Err(fields.untranslatable("type")),
    };
    // A mark for the prompt cache.
    fields.drop_hints(&["prompt_cache_breakpoint"]);
    fields.finish()?;
    Ok(part)
}

fn image(fields: &mut Fields) -> Result<Part, RequestError> {
    state::refuse_file(fields)?;
    // How many tokens the image takes, which other dialects leave to the provider.
    fields.drop_hints(&["detail"]);
    let url = fields.required_text("image_url")?;
    media(&url).map(Part::Image).ok_or_else(|| fields.wrong("image_url", "a URL or `data:TYPE;base64,DATA`"))
}

fn document(fields: &mut Fields) -> Result<Part, RequestError> {
    state::refuse_file(fields)?;
    fields.drop_hints(&["detail"]);
    let name = fields.text("filename")?;
    let media = match (fields.text("file_data")?, fields.text("file_url")?) {
        (Some(data), None) => data.starts_with("data:").then(|| media(&data)).flatten(),
        (None, Some(url)) => Some(Media::Url(url)),
        _ => return Err(fields.wrong("file_data", "given, or `file_url`, and not both")),
    };
    let media = media.ok_or_else(|| fields.wrong("file_data", "`data:TYPE;base64,DATA`"))?;
    Ok(Part::Document { media, name })
}

fn audio(fields: &mut Fields) -> Result<Part, RequestError> {
    let mut inner = fields.object("input_audio")?.ok_or_else(|| fields.wrong("input_audio", "an object"))?;
    let media_type = match inner.required_text("format")?.as_str() {
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        _ => return Err(inner.wrong("format", "`wav` or `mp3`")),
    };
    let data = inner.required_text("data")?;
    inner.finish()?;
    Ok(Part::Audio(Media::Base64 { media_type: media_type.to_owned(), data }))
}

/// What is at a URL, or in it: `data:TYPE;base64,DATA`.
fn media(url: &str) -> Option<Media> {
    let Some(inline) = url.strip_prefix("data:") else { return Some(Media::Url(url.to_owned())) };
    let (head, data) = inline.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?.split(';').next()?;
    (!media_type.is_empty())
        .then(|| Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}
