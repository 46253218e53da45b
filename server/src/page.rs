//! The page at `/`, from files that are part of the program.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::error::ApiError;

/// The files of the page by name; nothing else can be asked for.
const ASSETS: [(&str, &str, &str); 3] = [
    ("index.html", "text/html; charset=utf-8", include_str!("../assets/index.html")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("../assets/app.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("../assets/style.css")),
];

/// Everything comes from here, and nothing runs that is no file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) async fn index() -> Result<Response, ApiError> {
    file("index.html")
}

pub(crate) async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    file(&name)
}

/// Browsers ask for one unasked.
pub(crate) async fn icon() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn file(name: &str) -> Result<Response, ApiError> {
    let Some((_, kind, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return Err(ApiError::status_only(StatusCode::NOT_FOUND, "not_found", "the page has no such file"));
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Ok((headers, *text).into_response())
}
