//! What goes wrong while a request is answered.

use std::{fmt, io};

use http::StatusCode;

use crate::BodyError;

/// The error a handler ends with; it goes to the error routes.
#[derive(Debug)]
pub struct HttpError {
    /// The status the client gets, unless an error route says otherwise.
    pub status: StatusCode,
    /// The text for logs and `{http.error.message}`; empty where there is none.
    pub message: String,
    /// What is to be done with the connection.
    pub kind: ErrorKind,
}

/// What an error means for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An ordinary error: answered, after the error routes.
    Handler,
    /// No answer; the connection (or stream) is closed at once (`abort`).
    Abort,
    /// The client went away; nobody is there to read an answer.
    Canceled,
}

impl HttpError {
    /// An error with this status and text.
    pub fn new(status: StatusCode, message: impl fmt::Display) -> Self {
        Self { status, message: plain_text(message.to_string()), kind: ErrorKind::Handler }
    }

    /// An error with this status and no text.
    pub fn status(status: StatusCode) -> Self {
        Self { status, message: String::new(), kind: ErrorKind::Handler }
    }

    /// A 500.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Close the connection without an answer.
    pub fn abort() -> Self {
        Self { status: StatusCode::OK, message: "aborting".into(), kind: ErrorKind::Abort }
    }

    /// The client is gone: status 499 in the log.
    pub fn canceled() -> Self {
        Self {
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            message: "client disconnected".into(),
            kind: ErrorKind::Canceled,
        }
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "HTTP {}", self.status.as_u16())
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for HttpError {}

/// A request body that could not be read.
impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error),
            BodyError::Timeout => Self::new(StatusCode::REQUEST_TIMEOUT, error),
            BodyError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, error),
            BodyError::Incomplete | BodyError::Canceled | BodyError::Io(_) => Self::canceled(),
        }
    }
}

/// The usual phrase of a status, as Go has it (older names for 413, 414 and 416).
pub fn status_text(status: StatusCode) -> &'static str {
    match status.as_u16() {
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        416 => "Requested Range Not Satisfiable",
        _ => caddis_wire::phrase(status).unwrap_or(""),
    }
}

/// What an I/O error says, as Go says it: the system's sentence in lower case and without the
/// error's number. Words of others (a path, a peer, a TLS library) stay as they are.
pub fn plain(error: &io::Error) -> String {
    plain_text(error.to_string())
}

/// The same for a text that has the error's at its end or in it: `open X: Permission denied (os
/// error 13)` becomes `open X: permission denied`, and a name that nobody knows is `no such host`.
pub fn plain_text(mut text: String) -> String {
    const NUMBER: &str = " (os error ";
    const LOOKUP: &str = "failed to lookup address information: ";
    if let Some(at) = text.find(LOOKUP) {
        let why = text.split_off(at).split_off(LOOKUP.len());
        let unknown = ["Name or service not known", "No address associated with hostname"];
        match unknown.iter().find_map(|unknown| why.strip_prefix(unknown)) {
            Some(rest) => text.extend(["no such host", rest]),
            None => text.push_str(&why),
        }
    }
    if !text.contains(NUMBER) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(NUMBER) {
        let digits = after.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'-');
        let digits = digits.count();
        let Some(after) = after.get(digits..).and_then(|after| after.strip_prefix(')')) else {
            // It is no error's number.
            out.push_str(before);
            out.push_str(NUMBER);
            rest = after;
            continue;
        };
        // The system's sentences have no colon.
        let sentence = before.rfind(": ").map_or(0, |at| at + 2);
        out.push_str(&before[..sentence]);
        out.push_str(&before[sentence..].to_lowercase());
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{plain, plain_text};

    #[test]
    fn numbers_of_errors_are_not_for_people() {
        assert_eq!(plain(&io::Error::from_raw_os_error(13)), "permission denied");
        assert_eq!(plain(&io::Error::other("Bad Gateway")), "Bad Gateway");
        for (text, want) in [
            (
                "dial a.test: failed to lookup address information: Name or service not known; see",
                "dial a.test: no such host; see",
            ),
            (
                "failed to lookup address information: Temporary failure in name resolution",
                "Temporary failure in name resolution",
            ),
            (
                "open /A/B: No such file or directory (os error 2)",
                "open /A/B: no such file or directory",
            ),
            (
                "No space left on device (os error 28); free some",
                "no space left on device; free some",
            ),
            ("A: Is full (os error 1), B: Is a file (os error 2)", "A: is full, B: is a file"),
            (
                "what is (os error X)? Nobody: Knows (os error 5)",
                "what is (os error X)? Nobody: knows",
            ),
            ("Nothing Else (os error ", "Nothing Else (os error "),
        ] {
            assert_eq!(plain_text(text.to_owned()), want);
        }
    }
}
