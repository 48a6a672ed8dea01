//! Background work of a generation: health checks, upstream look-ups.

use std::{rc::Rc, sync::Arc};

use tokio_util::sync::CancellationToken;

use crate::{LocalBoxFuture, Worker, event::Events};

/// Work that commit starts on the control runtime and that ends with its generation.
pub struct Task {
    /// What it is, for logs.
    pub name: String,
    /// Makes the future, on the control thread.
    pub run: Box<dyn FnOnce(TaskCx) -> LocalBoxFuture<'static, ()> + Send>,
}

impl Task {
    /// A task from a function that makes its future.
    pub fn new<F>(name: impl Into<String>, run: impl FnOnce(TaskCx) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self { name: name.into(), run: Box::new(move |cx| Box::pin(run(cx))) }
    }
}

/// What a task gets.
#[derive(Clone)]
pub struct TaskCx {
    /// Cancelled when the generation ends.
    pub cancel: CancellationToken,
    /// The control thread's worker, for connection pools of its own.
    pub worker: Rc<Worker>,
    /// Whom to tell what happens.
    pub events: Arc<Events>,
}
