//! A thread with a runtime of its own, which works until it is told to stop, and whose end can be
//! waited for.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;

/// A thread, or the place of one that was not started.
pub(crate) struct Worker {
    stop: watch::Sender<bool>,
    running: Mutex<bool>,
    /// It runs no more.
    ended: Condvar,
}

impl Worker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stop: watch::Sender::new(false),
            running: Mutex::new(false),
            ended: Condvar::new(),
        })
    }

    /// Starts the thread; what `work` makes is to end soon after [`stop`](Self::stop).
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start<F: Future<Output = ()>>(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        *self.running() = true;
        // Dropped with the closure where there is no thread, and by a panic, too.
        let running = Running(self.clone());
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn(move || {
            let _running = running;
            runtime.block_on(work());
        })?;
        Ok(())
    }

    /// Tells the thread to do what is left to do, and to end.
    pub(crate) fn stop(&self) {
        // Nobody needs to listen.
        self.stop.send_replace(true);
    }

    /// Where the thread sees that it is to stop.
    pub(crate) fn stopping(&self) -> &watch::Sender<bool> {
        &self.stop
    }

    /// Waits for the end, until the deadline at most; whether it has come.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let mut running = self.running();
        while *running {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.ended.wait_timeout(running, left);
            running = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn running(&self) -> MutexGuard<'_, bool> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says at its end that the thread runs no more.
struct Running(Arc<Worker>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running() = false;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn its_end_is_waited_for() {
        let worker = Worker::new();
        assert!(worker.wait(Instant::now()), "nothing runs yet");
        let mut stop = worker.stopping().subscribe();
        worker
            .start("test", move || async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .expect("a thread");
        assert!(!worker.wait(Instant::now()));
        worker.stop();
        assert!(worker.wait(Instant::now() + Duration::from_secs(20)));
    }
}
