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
        Self { status, message: message.to_string(), kind: ErrorKind::Handler }
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

/// What the system says of an I/O error, as Go says it: in lower case, without the error's number.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
