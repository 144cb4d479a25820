//! The style sheet and the script. Their addresses have a hash of the content, so that browsers keep them for ever.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_secret::token;

use super::super::{error::HttpError, path::Path};

/// A file that pages load.
pub struct Asset {
    /// Its address.
    pub address: String,
    media: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, extension: &str, media: &'static str, content: &'static str) -> Self {
        let hash = token::hash(content).to_string();
        let hash = hash.get(..16).unwrap_or_default();
        Self { address: format!("/console/assets/{name}-{hash}.{extension}"), media, content }
    }
}

/// The style sheet.
pub static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console", "css", "text/css; charset=utf-8", include_str!("assets/console.css"))
});
/// The script; pages work without it.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("assets/console.js"))
});
/// The icon in the browser's tab.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

/// Shows a file.
pub async fn asset(Path(file): Path<String>) -> Result<Response, HttpError> {
    let address = format!("/console/assets/{file}");
    let asset = [&*STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.address == address);
    let asset = asset.ok_or_else(|| HttpError::no_route(&address))?;
    let mut response = asset.content.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
