//! How long a connection waits for its next request, with one timer for its whole life.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::listen::Drain;

/// A limit that moves: the timer is set anew only when it goes off too early or would go off too
/// late, so that a busy connection hardly touches it.
#[derive(Default)]
pub(super) struct Patience {
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    drain: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Patience {
    /// The limit from now on; `None` is no limit.
    pub(super) fn wait(&mut self, limit: Option<Duration>) {
        self.until = limit.map(|limit| Instant::now() + limit);
    }

    /// No limit beyond this.
    pub(super) fn at_most(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |limit| limit.min(until)));
    }

    /// Ready when the limit passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.deadline() > until {
                    timer.as_mut().reset(until);
                } else if !timer.is_elapsed() {
                    // It was polled when it was set, and wakes this task.
                    return Poll::Pending;
                }
                timer
            }
            None => self.timer.insert(Box::pin(tokio::time::sleep_until(until))),
        };
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }

    /// Whether the connection is told to end; wakes the task when it is.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, drain: &Drain) -> bool {
        if drain.is_begun() {
            return true;
        }
        if self.drain.is_some() {
            // Registered already, with this same task.
            return false;
        }
        self.drain.insert(Box::pin(drain.wait())).as_mut().poll(cx).is_ready()
    }
}
