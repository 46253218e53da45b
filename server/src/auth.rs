//! Who may ask: API keys, and the names by which a loopback address may be called.

use std::{fmt, net::IpAddr, path::Path};

use axum::http::{HeaderMap, StatusCode, header};
use logitfuse::{Error, ErrorKind, Result, pipeline::read_text_file};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;

/// Bytes of the largest file of keys.
const MOST_BYTES: u64 = 1 << 20;
/// The shortest key: what can be guessed is no key.
const SHORTEST: usize = 16;

/// The keys that a server admits. Their hashes alone are kept.
#[derive(Clone, Default)]
pub struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    /// Keys from a text, one a line; lines that begin with `#` are comments.
    ///
    /// ```
    /// use logitfuse_server::ApiKeys;
    ///
    /// let keys = ApiKeys::from_text("# made with `openssl rand -hex 32`\n0123456789abcdef0123456789abcdef\n")?;
    /// assert!(!keys.is_empty());
    /// assert!(ApiKeys::from_text("secret\n").is_err());
    /// # Ok::<(), logitfuse::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a key that is short, or holds what no header can hold, or if there is none.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if key.len() < SHORTEST || !key.chars().all(|c| c.is_ascii_graphic()) {
                let what = format!("line {number}: a key has {SHORTEST} characters of ASCII at least, and no space");
                return Err(
                    Error::new(ErrorKind::InvalidConfig, what).with_help("make one with `openssl rand -hex 32`")
                );
            }
            keys.push(hash(key.as_bytes()));
        }
        if keys.is_empty() {
            return Err(Error::new(ErrorKind::InvalidConfig, "there is no key")
                .with_help("write one a line; make one with `openssl rand -hex 32`"));
        }
        Ok(Self(keys))
    }

    /// Keys from a file, one a line.
    ///
    /// # Errors
    /// Those of the file, and of [`from_text`](Self::from_text).
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_text(&read_text_file(path, MOST_BYTES)?).map_err(|e| e.context(path.display()))
    }

    /// Whether there is no key, and everyone is admitted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request brings one of the keys. Takes the same time for every key, admitted or not.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.is_empty() {
            return Ok(());
        }
        let refused =
            |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key", message);
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(refused("there is no API key; send it as `Authorization: Bearer KEY`"));
        };
        let bytes = value.as_bytes();
        let scheme = bytes.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        let given = hash(if scheme { bytes[7..].trim_ascii() } else { b"" });
        let known = self.0.iter().fold(Choice::from(0), |known, key| known | key.ct_eq(&given));
        if bool::from(known) { Ok(()) } else { Err(refused("the API key is not one of this server's")) }
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Whether a request may call a loopback address by the name in its `Host`. A page of another site can make a browser send
/// requests here by letting its own name point to 127.0.0.1; its name gives it away.
pub(crate) fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::HOST) else { return Ok(()) };
    let host = value.to_str().unwrap_or_default();
    // A port is what follows the last colon, unless that is part of a number in brackets.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let number = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = name.eq_ignore_ascii_case("localhost") || number.is_ok_and(|number| number.is_loopback());
    if local || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let message = "this server listens on a loopback address and does not answer to the name in `Host`; call it localhost, \
                   or allow the name with --allowed-host";
    Err(ApiError::status_only(StatusCode::FORBIDDEN, "host_not_allowed", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_key_is_admitted_whatever_the_case_of_its_scheme() {
        let keys = ApiKeys::from_text("aaaaaaaaaaaaaaaa\n# comment\n\nbbbbbbbbbbbbbbbb\n").unwrap();
        for good in ["Bearer aaaaaaaaaaaaaaaa", "bearer bbbbbbbbbbbbbbbb", "Bearer  bbbbbbbbbbbbbbbb "] {
            assert!(keys.admit(&with(header::AUTHORIZATION, good)).is_ok(), "{good}");
        }
        for bad in
            ["Bearer aaaaaaaaaaaaaaab", "Bearer ", "aaaaaaaaaaaaaaaa", "Basic aaaaaaaaaaaaaaaa", "Bearer # comment"]
        {
            assert!(keys.admit(&with(header::AUTHORIZATION, bad)).is_err(), "{bad}");
        }
        assert!(keys.admit(&HeaderMap::new()).is_err());
        assert!(ApiKeys::default().admit(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn keys_leave_no_trace_in_messages() {
        let keys = ApiKeys::from_text("0123456789abcdef").unwrap();
        assert_eq!(format!("{keys:?}"), "ApiKeys(1)");
        let error = ApiKeys::from_text("ok-ok-ok-ok-ok-ok\nhunter2\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2: ") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn names_of_other_sites_are_refused() {
        for good in
            ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]", "proxy.example:1"]
        {
            let allowed = ["proxy.example".to_owned()];
            assert!(check_host(&with(header::HOST, good), &allowed).is_ok(), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]:80",
            "",
            "127.0.0.1.evil",
        ] {
            assert!(check_host(&with(header::HOST, bad), &[]).is_err(), "{bad}");
        }
    }
}
