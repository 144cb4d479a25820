//! What tests read of a response.

use reqwest::Response;
use serde_json::Value;

/// A header as text.
pub fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("the header is text"))
}

/// The content of the first choice of a chat completion that is not streamed; empty where there is none.
pub async fn content(response: Response) -> String {
    let body: Value = response.json().await.expect("a JSON body");
    body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}
