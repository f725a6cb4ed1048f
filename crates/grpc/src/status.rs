//! How a call has ended: a code and a sentence.

/// The codes of what is not well (<https://grpc.io/docs/guides/status-codes/>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// Whoever called does not want it any more, or has gone.
    Cancelled = 1,
    /// Something went wrong.
    Unknown = 2,
    /// What is asked makes no sense.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// What is asked for is not there.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// Who asks may not.
    PermissionDenied = 7,
    /// Too much is asked for.
    ResourceExhausted = 8,
    /// Something is not as it must be.
    FailedPrecondition = 9,
    /// Something else came first.
    Aborted = 10,
    /// Nothing is there any more.
    OutOfRange = 11,
    /// Nobody does this here.
    Unimplemented = 12,
    /// Something is broken.
    Internal = 13,
    /// Nobody is there now.
    Unavailable = 14,
    /// Something is lost.
    DataLoss = 15,
    /// Nobody knows who asks.
    Unauthenticated = 16,
}

const ALL: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Code {
    /// The code of this number, which is not 0.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        ALL.into_iter().find(|code| u64::from(*code as u32) == number)
    }
}

/// Why a call has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What kind of failure it is.
    pub code: Code,
    /// For people.
    pub message: String,
    /// More about it for programs: a `google.rpc.Status` in base64; empty for none.
    pub details: String,
}

impl Status {
    /// A failure.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// That of a call whose other side has gone.
    pub(crate) fn gone() -> Self {
        Self::new(Code::Unavailable, "the connection is closed")
    }

    /// What the trailers of an answer say: `None` for success.
    pub(crate) fn of_trailers(trailers: &[(String, String)]) -> Option<Self> {
        let get = |wanted: &str| {
            trailers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        let number: u64 = match get("grpc-status").map(str::parse) {
            Some(Ok(0)) => return None,
            Some(Ok(number)) => number,
            _ => {
                let answer = get(":status").unwrap_or("none");
                let message = format!("the answer has no status of gRPC, but {answer} of HTTP");
                return Some(Self::new(Code::Unknown, message));
            }
        };
        let code = Code::of(number).unwrap_or(Code::Unknown);
        Some(Self::new(code, decoded(get("grpc-message").unwrap_or_default())))
    }

    /// The message as a header field has it: percent-encoded where it is not printable ASCII.
    pub(crate) fn encoded_message(&self) -> String {
        let mut text = String::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
                byte => text += &format!("%{byte:02X}"),
            }
        }
        text
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_header_fields() {
        let status = Status::new(Code::NotFound, "100 % of `ü`\nis gone");
        let encoded = status.encoded_message();
        assert_eq!(encoded, "100 %25 of `%C3%BC`%0Ais gone");
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let trailers = [field("grpc-status", "5"), field("grpc-message", &encoded)];
        assert_eq!(Status::of_trailers(&trailers), Some(status));
        assert_eq!(Status::of_trailers(&[field("grpc-status", "0")]), None);
        let odd =
            Status::of_trailers(&[field("grpc-status", "99"), field("grpc-message", "a%zz%4")]);
        assert_eq!(odd, Some(Status::new(Code::Unknown, "a%zz%4")));
        assert!(Status::of_trailers(&[field(":status", "404")]).is_some());
    }
}
