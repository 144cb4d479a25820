//! Makes responses of templates, and pages of errors.

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_api::error::ErrorBody;

use super::{super::error::HttpError, frame::Frame, return_path::ReturnPath, text, visit::Visit};

/// A page.
///
/// # Errors
/// When the template fails, which is logged.
pub fn show(status: StatusCode, page: &impl Template) -> Result<Response, HttpError> {
    let html = page.render().map_err(|error| {
        tracing::error!(%error, "a page of the console could not be made");
        HttpError::internal()
    })?;
    let mut response = (status, html).into_response();
    let media = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    Ok(response)
}

/// A page that shows its form again with an error in it, with the status and the headers that the API would answer with.
///
/// # Errors
/// The error itself where the session has ended. When the template fails, which is logged.
pub fn refused(error: HttpError, page: &impl Template) -> Result<Response, HttpError> {
    if error.status() == StatusCode::UNAUTHORIZED {
        return Err(error);
    }
    let mut response = show(error.status(), page)?;
    keep_headers(error.into_response().headers(), &mut response);
    Ok(response)
}

/// What a filter finds, or nothing and the error where its entries are wrong: its page shows it again.
///
/// # Errors
/// Any other error.
pub fn filtered<T: Default>(found: Result<T, HttpError>) -> Result<(T, Option<HttpError>), HttpError> {
    match found {
        Ok(found) => Ok((found, None)),
        Err(error) if matches!(error.status(), StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => {
            Ok((T::default(), Some(error)))
        }
        Err(error) => Err(error),
    }
}

/// A page with a filter, and with what is wrong in it.
///
/// # Errors
/// When the template fails, which is logged.
pub fn show_filtered(wrong: Option<HttpError>, page: &impl Template) -> Result<Response, HttpError> {
    match wrong {
        Some(error) => refused(error, page),
        None => show(StatusCode::OK, page),
    }
}

fn keep_headers(api_headers: &HeaderMap, response: &mut Response) {
    for kept in [header::RETRY_AFTER, header::ALLOW, header::SET_COOKIE] {
        if let Some(value) = api_headers.get(&kept) {
            response.headers_mut().insert(kept, value.clone());
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    error: &'a ErrorBody,
    sign_in: Option<String>,
    /// The page that led here.
    before: Option<ReturnPath>,
    request: Option<String>,
}

/// The page of an error, with the status and the headers that the API would answer with.
pub fn error(
    visit: &Visit,
    status: StatusCode,
    error: &ErrorBody,
    here: ReturnPath,
    before: Option<ReturnPath>,
    api_headers: &HeaderMap,
) -> Result<Response, HttpError> {
    let title = match status {
        StatusCode::UNAUTHORIZED => "Sign in",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::NOT_FOUND => "Not found",
        status if status.is_server_error() => "Something went wrong",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        _ => "Not accepted",
    };
    let page = ErrorPage {
        frame: Frame::new(visit, None, title),
        error,
        before: before.filter(|before| *before != here),
        sign_in: (status == StatusCode::UNAUTHORIZED).then(|| here.sign_in()),
        request: status.is_server_error().then(mcpctl_server::request_id),
    };
    let mut response = show(status, &page)?;
    keep_headers(api_headers, &mut response);
    Ok(response)
}
