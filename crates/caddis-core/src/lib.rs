//! The vocabulary that all crates above share: module kinds, the handler chain, one request in
//! flight (`Exchange`), compiled strings (`Template`), shared state.
//!
//! Reading order: `handler` (the seam), `exchange`, `route`, `template`, `module`, `compile`,
//! `directive`. Nothing here does I/O, and no single handler, matcher or directive is known here.

pub mod body;
pub mod client_certificates;
pub mod compile;
pub mod directive;
pub mod disk;
pub mod error;
pub mod event;
pub mod exchange;
mod file_text;
pub mod finish;
pub mod handler;
pub mod layout;
pub mod matcher;
pub mod metrics;
pub mod module;
pub mod placeholder;
pub mod process;
pub mod punycode;
pub mod read_ahead;
pub mod registry;
pub mod response_matcher;
pub mod route;
pub mod state;
pub mod target;
pub mod task;
pub mod template;
pub mod trust;
pub mod value;
pub mod worker;

pub use body::{Body, BodyError, BodyStream, StreamBody};
pub use bytestring::ByteString;
pub use compile::CompileCx;
pub use directive::{ConfigValue, Directive, DirectiveKind, Helper};
pub use error::{ErrorKind, HttpError};
pub use exchange::{Connection, Exchange, NoSniff, Request, TlsInfo, WriteLimits};
pub use handler::{Filter, Flow, Handler, LocalBoxFuture, Middleware, Next, ResponseFilter};
pub use layout::Layout;
pub use matcher::{Awaited, Matcher, MatcherSet, MatcherSets};
pub use module::{HandlerModule, MatcherModule};
pub use read_ahead::ReadAhead;
pub use registry::Registry;
pub use response_matcher::ResponseMatcher;
pub use route::{Route, RouteList};
pub use state::{State, Table};
pub use target::Target;
pub use task::{Task, TaskCx};
pub use template::Template;
pub use value::Value;
pub use worker::Worker;

/// The answer to a request, as handlers produce it.
pub type Response = http::Response<Body>;
/// What a handler ends with.
pub type Result<T = Response> = std::result::Result<T, HttpError>;
