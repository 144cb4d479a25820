//! The two changes that are made to a request body: another model, and a request for usage on a stream.

use bytes::Bytes;

use super::{error::RequestError, object::Object};

/// Sets `model`. Every other byte stays as it was.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, and for one whose `model` [`RequestFields::read`](super::RequestFields::read) rejects.
pub fn with_model(body: &[u8], model: &str) -> Result<Bytes, RequestError> {
    let object = Object::read(body)?;
    object.model()?;
    Ok(object.set("model", &serde_json::Value::from(model).to_string())?.into())
}

/// Sets `stream_options.include_usage` to true. Every other byte stays as it was.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, and for one whose `stream_options` [`RequestFields::read`](super::RequestFields::read) rejects.
pub fn with_include_usage(body: &[u8]) -> Result<Bytes, RequestError> {
    let object = Object::read(body)?;
    let options = match object.stream_options()? {
        None => r#"{"include_usage":true}"#.to_owned(),
        Some(options) => options.set("include_usage", "true")?,
    };
    Ok(object.set("stream_options", &options)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_model_is_replaced() {
        let with = |body: &str| {
            with_model(body.as_bytes(), "a\"b").map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            with(r#"{ "x" : 1.0 ,"model":  "old" , "y":"model"}"#).unwrap(),
            r#"{ "x" : 1.0 ,"model":  "a\"b" , "y":"model"}"#
        );
        assert_eq!(with(r#"{"model":null}"#).unwrap(), r#"{"model":"a\"b"}"#);
        assert_eq!(with(" { }").unwrap(), r#" {"model":"a\"b" }"#);
        assert_eq!(with(r#"{"x":{"model":"deep"}}"#).unwrap(), r#"{"model":"a\"b","x":{"model":"deep"}}"#);
        assert_eq!(with(r#"{"model":"a","model":"b"}"#), Err(RequestError::Duplicate("model")));
    }

    #[test]
    fn usage_is_requested_and_other_stream_options_stay() {
        for (body, expected) in [
            (r#"{"model":"a"}"#, r#"{"stream_options":{"include_usage":true},"model":"a"}"#),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream_options": {"include_usage":false, "x":1}}"#,
                r#"{"stream_options": {"include_usage":true, "x":1}}"#,
            ),
            (r#"{"stream_options":{"x":1}}"#, r#"{"stream_options":{"include_usage":true,"x":1}}"#),
        ] {
            assert_eq!(with_include_usage(body.as_bytes()).unwrap(), expected, "{body}");
        }
        assert!(with_include_usage(br#"{"stream_options":1}"#).is_err());
    }
}
