//! Bodies of requests: read within bounds of size and time, and as the type that a route takes.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::{error::ApiError, options::Limits};

/// Reads a body to its end.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // A page of another site cannot send this type without being asked whether it may.
    if !kind.eq_ignore_ascii_case("application/json") {
        let message = "the body's type must be `Content-Type: application/json`";
        return Err(ApiError::status_only(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|length| length > limits.body_bytes as u64) {
        return Err(too_large(limits.body_bytes));
    }
    let reading = Limited::new(body, limits.body_bytes).collect();
    match tokio::time::timeout(limits.body_timeout, reading).await {
        Err(_) => Err(too_slow(limits.body_timeout)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits.body_bytes)),
        Ok(Err(_)) => Err(ApiError::malformed("the body ended before its end")),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body is larger than {limit} bytes; send fewer prompts at a time, or raise --max-body");
    ApiError::status_only(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn too_slow(limit: Duration) -> ApiError {
    let message = format!("the body did not arrive within {} s", limit.as_secs_f64());
    ApiError::status_only(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
}

/// Reads JSON as a type; an error names the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take a list for the fields in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::malformed("the body is a list; send an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let message = inner.to_string();
        if inner.is_data() {
            let field = quoted_field(&message).filter(|_| path == ".").map_or(path, str::to_owned);
            let unknown = message.starts_with("unknown field");
            let error = ApiError::invalid(field, message);
            if unknown { error.unknown() } else { error }
        } else {
            ApiError::malformed(format!("the body is not JSON: {message}"))
        }
    })?;
    json.end().map_err(|error| ApiError::malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// The field that a message of serde is about.
fn quoted_field(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once(" field `")?;
    rest.split_once('`').map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[expect(dead_code, reason = "read by serde alone")]
        temperature: f64,
    }

    #[test]
    fn an_error_names_the_field() {
        let of = |text: &str| {
            let error = parse::<Example>(text.as_bytes()).unwrap_err().envelope().error;
            (error.param, error.code)
        };
        assert_eq!(of(r#"{"temperature": "hot"}"#), (Some("temperature".to_owned()), None));
        assert_eq!(of(r#"{"temprature": 1}"#), (Some("temprature".to_owned()), Some("unknown_parameter")));
        assert_eq!(of("{}"), (Some("temperature".to_owned()), None));
        assert_eq!(of(r#"{"temperature": 1"#), (None, Some("invalid_json")));
        assert_eq!(of(r#"{"temperature": 1} x"#), (None, Some("invalid_json")));
        assert_eq!(of(r#"{"temperature": 1, "temperature": 2}"#), (Some("temperature".to_owned()), None));
    }
}
