//! Answers that say no, in the form in which clients of OpenAI read them.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use logitfuse::{Error, ErrorKind, plugins::is_plugin_failure};
use schemars::JsonSchema;
use serde::Serialize;

/// Why a request was not answered.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    /// Seconds after which another try makes sense.
    retry_after: Option<u32>,
}

/// `{"error": {…}}`: the body of every answer that is no success.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorEnvelope {
    /// What is wrong.
    pub(crate) error: ErrorBody,
}

/// What is wrong with a request, or with the server.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorBody {
    /// One line for people.
    pub(crate) message: String,
    /// The kind of the error, for programs.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The field that is wrong.
    pub(crate) param: Option<String>,
    /// The error itself, for programs.
    pub(crate) code: Option<&'static str>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        let body = ErrorBody { message: message.into(), kind, param: None, code: Some(code) };
        Self { status, body, retry_after: None }
    }

    /// A field of the request that is wrong.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let body = ErrorBody { message: message.into(), kind: INVALID, param: Some(param.into()), code: None };
        Self { status: StatusCode::BAD_REQUEST, body, retry_after: None }
    }

    /// A field that is known and not offered.
    pub(crate) fn unsupported(param: &str, message: impl Into<String>) -> Self {
        let mut error = Self::invalid(param, message);
        error.body.code = Some("unsupported_parameter");
        error
    }

    /// The same error, about a field that no request has.
    #[must_use]
    pub(crate) fn unknown(mut self) -> Self {
        self.body.code = Some("unknown_parameter");
        self
    }

    /// The same error, of a prompt that does not fit.
    #[must_use]
    pub(crate) fn context_length(mut self) -> Self {
        self.body.code = Some("context_length_exceeded");
        self
    }

    /// A body that is not what the route reads.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_json", message)
    }

    pub(crate) fn status_only(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, if status.is_server_error() { SERVER } else { INVALID }, code, message)
    }

    pub(crate) fn unknown_model(name: &str, known: &[&str]) -> Self {
        let shown: String = name.chars().take(80).collect();
        let message = format!("the model {shown:?} does not exist; there are {}", known.join(", "));
        let mut error = Self::new(StatusCode::NOT_FOUND, INVALID, "model_not_found", message);
        error.body.param = Some("model".to_owned());
        error
    }

    pub(crate) fn overloaded(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full", message);
        error.retry_after = Some(1);
        error
    }

    pub(crate) fn draining() -> Self {
        let message = "the server is shutting down; send the request to another one";
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, SERVER, "shutting_down", message);
        error.retry_after = Some(5);
        error
    }

    pub(crate) fn stopped() -> Self {
        let message = "the decoding thread has ended; restart the server and report what its log says";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "decoder_stopped", message)
    }

    pub(crate) fn timed_out(seconds: f64) -> Self {
        let message =
            format!("the answer took longer than {seconds} s; ask for fewer tokens, or raise --request-timeout");
        Self::new(StatusCode::GATEWAY_TIMEOUT, SERVER, "request_timeout", message)
    }

    /// What the pipeline or the engine says of a request. What only the operator can mend is in the log, without its paths here.
    pub(crate) fn of(error: &Error) -> Self {
        let mut message = error.to_string();
        if is_plugin_failure(error) {
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "plugin_failed", message);
        }
        if let Some(help) = error.help() {
            message = format!("{message}; {help}");
        }
        match error.kind() {
            ErrorKind::ContextOverflow => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded", message)
            }
            ErrorKind::InvalidConfig | ErrorKind::Unsupported | ErrorKind::InvalidData | ErrorKind::Incompatible => {
                Self::new(StatusCode::BAD_REQUEST, INVALID, "invalid_value", message)
            }
            ErrorKind::Cancelled => Self::draining(),
            ErrorKind::Numeric => Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "strategy_failed", message),
            _ => {
                tracing::error!(error = %error, "the models failed");
                let message = "the models failed; the server's log has the cause";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, SERVER, "models_failed", message)
            }
        }
    }

    /// The same error, about this field.
    #[must_use]
    pub(crate) fn about(mut self, param: impl Into<String>) -> Self {
        self.body.param = Some(param.into());
        self
    }

    pub(crate) fn envelope(&self) -> ErrorEnvelope {
        ErrorEnvelope { error: self.body.clone() }
    }

    /// The envelope as JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(&self.envelope()).unwrap_or_default()
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::of(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A value as the body of an answer.
pub(crate) fn json_response(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => ApiError::of(&Error::new(ErrorKind::Internal, error.to_string())).into_response(),
    }
}
