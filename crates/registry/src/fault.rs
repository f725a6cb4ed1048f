//! Why one request to one server failed, and what that means for the pull.

use std::time::Duration;

use oci::Reference;

use crate::{Doing, Error};

const DETAIL_LENGTH_MAX: usize = 300;

/// Why one request failed.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// 401 or 403, with what we know of ourselves.
    Denied(String),
    /// 404.
    Missing(String),
    /// 429; the server may say when to come back.
    Limited { detail: String, after: Option<Duration> },
    /// No connection came about.
    Unconnected { why: String, cause: Cause },
    /// The connection broke: worth another attempt.
    Broken(String),
    /// The server failed (5xx): worth another attempt.
    Failing(String),
    /// An answer that will not get better.
    Wrong(String),
    /// Such an answer, by its HTTP status, where that says what else to try: 413, 416 and the like.
    Refused { status: u16, why: String },
    /// Not the announced content.
    Mismatch { what: String, expected: String, got: String },
}

/// Why no connection came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Name, route, port or time.
    Network,
    /// The server does not speak TLS.
    PlainHttp,
    /// The server's certificate comes from nobody whom we trust.
    UnknownAuthority,
    /// TLS failed otherwise.
    Tls,
}

impl Fault {
    /// The meaning of an HTTP status that is no success.
    pub(crate) fn from_status(status: u16, detail: &str, after: Option<Duration>) -> Self {
        let said = |default: &str| {
            if detail.is_empty() { default.to_owned() } else { detail.to_owned() }
        };
        match status {
            401 => Self::Denied(said("authentication required")),
            403 => Self::Denied(said("forbidden")),
            404 => Self::Missing(said("manifest unknown")),
            429 => Self::Limited { detail: said("try again later"), after },
            408 | 500..=599 => {
                Self::Failing(format!("HTTP status {status} {detail}").trim_end().to_owned())
            }
            _ => {
                let why = format!("HTTP status {status} {detail}").trim_end().to_owned();
                Self::Refused { status, why }
            }
        }
    }

    /// What ureq could not do.
    pub(crate) fn from_transport(error: &ureq::Error) -> Self {
        let text = printable(&error.to_string());
        match error {
            ureq::Error::HostNotFound => Self::unconnected("no such host"),
            ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::InvalidProxyUrl => Self::unconnected(&text),
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                Self::unconnected(&format!("no connection in time ({text})"))
            }
            ureq::Error::BadUri(_) | ureq::Error::LargeResponseHeader(..) => Self::Wrong(text),
            ureq::Error::Protocol(_) => Self::Broken(format!("not HTTP as it should be: {text}")),
            ureq::Error::Io(error) => Self::from_io(error, printable(&error.to_string())),
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Self::tls(&text),
            _ => Self::Broken(text),
        }
    }

    fn from_io(error: &std::io::Error, text: String) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            // rustls' errors during the handshake come this way.
            ErrorKind::InvalidData => Self::tls(&text),
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied => Self::unconnected(&text),
            _ if text.contains("failed to lookup address") => Self::unconnected(&text),
            _ => Self::Broken(text),
        }
    }

    fn tls(text: &str) -> Self {
        let known = [
            ("InvalidContentType", "the server speaks plain HTTP, not HTTPS", Cause::PlainHttp),
            (
                "UnknownIssuer",
                "its certificate is signed by an unknown authority",
                Cause::UnknownAuthority,
            ),
            ("CaUsedAsEndEntity", "its certificate is self-signed", Cause::UnknownAuthority),
        ];
        match known.iter().find(|(mark, ..)| text.contains(mark)) {
            Some((_, why, cause)) => Self::Unconnected { why: (*why).to_owned(), cause: *cause },
            None => Self::Unconnected { why: text.to_owned(), cause: Cause::Tls },
        }
    }

    fn unconnected(why: &str) -> Self {
        Self::Unconnected { why: why.to_owned(), cause: Cause::Network }
    }

    /// Whether no word of HTTP was heard, so that another scheme may fare better.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::Unconnected { cause, .. } => matches!(cause, Cause::Network | Cause::PlainHttp),
            _ => false,
        }
    }

    /// Whether the same request may succeed later, on a server that answered before or not.
    pub(crate) fn is_passing(&self, answered_before: bool) -> bool {
        match self {
            Self::Broken(_) | Self::Failing(_) | Self::Limited { .. } => true,
            Self::Unconnected { .. } => answered_before,
            _ => false,
        }
    }

    /// One line, without the server's name.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Denied(why)
            | Self::Missing(why)
            | Self::Broken(why)
            | Self::Failing(why)
            | Self::Refused { why, .. }
            | Self::Wrong(why) => why.clone(),
            Self::Limited { detail, .. } => format!("too many requests: {detail}"),
            Self::Unconnected { why, .. } => why.clone(),
            Self::Mismatch { what, expected, got } => {
                format!("{what} does not match: expected {expected}, got {got}")
            }
        }
    }

    /// The error of what was being done with `reference` when it ended with this at `host`.
    pub(crate) fn into_error(
        self,
        doing: Doing,
        reference: &Reference,
        host: &str,
        tried: &str,
    ) -> Error {
        let host = host.to_owned();
        let with_tried = |text: String| text + tried;
        match self {
            Self::Denied(why) => {
                Error::Denied { doing, name: reference.familiar_name(), detail: with_tried(why) }
            }
            Self::Missing(why) => {
                Error::NotFound { reference: reference.familiar(), detail: with_tried(why) }
            }
            Self::Limited { detail, .. } => Error::RateLimited { host, detail: with_tried(detail) },
            Self::Unconnected { why, .. }
            | Self::Broken(why)
            | Self::Failing(why)
            | Self::Refused { why, .. }
            | Self::Wrong(why) => Error::Unreachable { doing, host, why: with_tried(why) },
            Self::Mismatch { what, expected, got } => {
                Error::Mismatch { what, expected, got: with_tried(got) }
            }
        }
    }
}

/// `text` as it may be shown on a terminal: one line, without control characters, bounded.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_LENGTH_MAX).collect()
}

/// What the body of a failure says (distribution-spec, "Error Codes"); empty where it is no such
/// document.
pub(crate) fn detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return String::new() };
    let Some(first) = body.errors.first() else { return String::new() };
    let text = if first.message.is_empty() {
        first.code.replace('_', " ").to_lowercase()
    } else {
        first.message.clone()
    };
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_harmless_line() {
        let text = |body: &str| detail(body.as_bytes());
        assert_eq!(text(r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#), "manifest unknown");
        assert_eq!(text(r#"{"errors":[{"code":"X","message":"a\u001b[2J\nb"}]}"#), "a [2J b");
        assert_eq!(text("<html>"), "");
        assert_eq!(text(r#"{"errors":[]}"#), "");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "é".repeat(9000));
        assert_eq!(text(&long).chars().count(), DETAIL_LENGTH_MAX);
    }
}
