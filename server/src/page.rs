//! The page at `/`, from files that are part of the program.

use axum::{
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::error::ApiError;

macro_rules! files {
    ($($name:literal: $kind:literal,)*) => {
        [$(($name, $kind, include_str!(concat!("../assets/", $name)))),*]
    };
}

/// The files of the page by name, with their types and texts; nothing else can be asked for.
const FILES: [(&str, &str, &str); 19] = files! {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "results.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "theme.js": "text/javascript; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "column.js": "text/javascript; charset=utf-8",
    "dom.js": "text/javascript; charset=utf-8",
    "errors.js": "text/javascript; charset=utf-8",
    "inspect.js": "text/javascript; charset=utf-8",
    "legend.js": "text/javascript; charset=utf-8",
    "measures.js": "text/javascript; charset=utf-8",
    "models.js": "text/javascript; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "params.js": "text/javascript; charset=utf-8",
    "ribbon.js": "text/javascript; charset=utf-8",
    "sparkline.js": "text/javascript; charset=utf-8",
    "state.js": "text/javascript; charset=utf-8",
};

/// Everything comes from here, and nothing runs that is no file of ours.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
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

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets")).unwrap();
        let mut there: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        there.sort();
        let mut known: Vec<_> = FILES.iter().map(|(name, ..)| (*name).to_owned()).collect();
        known.sort();
        assert_eq!(known, there);
    }
}
