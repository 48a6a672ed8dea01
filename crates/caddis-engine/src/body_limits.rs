//! How long a client may take for a request's body, whatever the protocol.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use caddis_plan::Timeouts;
use tokio::time::{Instant, Sleep};

/// The limits of one body: for each pause, and for the whole from now on. A timer is made only when
/// the body has to be waited for.
#[derive(Default)]
pub(crate) struct BodyLimits {
    idle: Option<Duration>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl BodyLimits {
    /// Those of a server (`read_body_idle` and `read_body`), from now on.
    pub(crate) fn begin(timeouts: &Timeouts) -> Self {
        let deadline = timeouts.read.map(|limit| Instant::now() + limit);
        Self { idle: timeouts.read_idle, deadline, timer: None }
    }

    /// Nothing came; whether a limit is over.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle.map(|idle| Instant::now() + idle);
        let Some(until) = idle.into_iter().chain(self.deadline).min() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        timer.as_mut().poll(cx)
    }

    /// Something came: the next pause counts anew.
    pub(crate) fn came(&mut self) {
        self.timer = None;
    }
}
