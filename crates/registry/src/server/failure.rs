//! What a client is told when a request is not fulfilled (distribution-spec, "Error Codes").

use std::io;

use rustix::io::Errno;
use serde_json::{Value, json};

use httpd::Reply;

/// The specification's codes, and `UNKNOWN`, Docker's, for failures of the server itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The status that goes with it unless there is a better one.
    fn status(self) -> u16 {
        match self {
            Self::BlobUnknown | Self::BlobUploadUnknown => 404,
            Self::ManifestUnknown | Self::NameUnknown => 404,
            Self::Unauthorized => 401,
            Self::Denied => 403,
            Self::Unsupported => 405,
            Self::TooManyRequests => 429,
            Self::Unknown => 500,
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestBlobUnknown
            | Self::ManifestInvalid
            | Self::NameInvalid
            | Self::SizeInvalid => 400,
        }
    }
}

/// A request that is not fulfilled.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: u16,
    errors: Vec<Value>,
    headers: Vec<(&'static str, String)>,
    /// Why, for the log: what the client is not told.
    pub(super) cause: Option<String>,
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let error = json!({ "code": code.text(), "message": message.into() });
        Self { status: code.status(), errors: vec![error], headers: Vec::new(), cause: None }
    }

    /// The same with what it is about.
    pub(super) fn detail(mut self, detail: Value) -> Self {
        if let Some(error) = self.errors.last_mut() {
            error["detail"] = detail;
        }
        self
    }

    pub(super) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// One answer that tells of several failures with the status of the first.
    pub(super) fn all(failures: Vec<Self>) -> Option<Self> {
        failures.into_iter().reduce(|mut first, next| {
            first.errors.extend(next.errors);
            first
        })
    }

    /// The client's connection broke or was too slow while its request was read.
    pub(super) fn gone(error: &io::Error) -> Self {
        let cause = Some(format!("read the request: {error}"));
        let told = match error.kind() {
            io::ErrorKind::InvalidData => Self::new(Code::BlobUploadInvalid, error.to_string()),
            _ => Self::new(Code::BlobUploadInvalid, "the request ended early").status(408),
        };
        Self { cause, ..told }
    }

    pub(super) fn reply(self) -> Reply {
        let body = json!({ "errors": self.errors }).to_string() + "\n";
        let mut reply = Reply::new(self.status).document("application/json", body.into_bytes());
        for (name, value) in self.headers {
            reply = reply.header(name, value);
        }
        reply.log = self.cause;
        reply
    }
}

/// A failure of the disk.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let full =
            matches!(Errno::from_io_error(&error), Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG));
        let told = match full {
            true => Self::new(Code::Unknown, "the registry's disk is full").status(507),
            false => Self::new(Code::Unknown, "the registry's disk failed"),
        };
        Self { cause: Some(error.to_string()), ..told }
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Io { doing, source } => {
                let failure = Self::from(source);
                let why = failure.cause.unwrap_or_default();
                Self { cause: Some(format!("{doing}: {why}")), ..failure }
            }
            error => {
                let told = Self::new(Code::Unknown, "the registry's store failed");
                Self { cause: Some(error.to_string()), ..told }
            }
        }
    }
}
