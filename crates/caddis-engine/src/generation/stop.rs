//! The end of the program.

use std::{collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use caddis_core::finish::Finishers;
use serde_json::json;

use super::Engine;
use crate::{
    listen::{self, Listener},
    notify,
};

impl Engine {
    /// Stops: no new connections, open requests go on within the grace period, then all ends.
    pub async fn stop(&self) {
        notify::stopping();
        let Some(running) = self.current.take() else {
            self.end_api().await;
            self.workers.borrow_mut().stop();
            return;
        };
        if let Some(delay) = running.shutdown_delay.filter(|_| !running.listeners.is_empty()) {
            announce_shutdown(&running.listeners, delay);
            tokio::time::sleep(delay).await;
        }
        // Nothing that a handler says keeps the program from ending.
        let _ = running.subscriptions.emit("stopping", "", json!({})).await;
        running.cancel.cancel();
        self.commit_quic(HashMap::new(), &HashMap::new());
        close_all(running.listeners);
        let grace = running.grace_period;
        match grace.map(|grace| grace.as_secs_f64()) {
            None => {
                tracing::info!(target: "http", "servers shutting down with eternal grace period");
            }
            Some(duration) => tracing::info!(
                target: "http",
                duration,
                "servers shutting down; grace period initiated"
            ),
        }
        let open = self.workers.borrow().open();
        let drained = async {
            while open() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match grace {
            None => drained.await,
            Some(grace) => {
                if tokio::time::timeout(grace, drained).await.is_err() {
                    tracing::warn!(target: "http", "grace period is over: open connections are cut");
                    self.cut_quic().await;
                }
            }
        }
        self.end_api().await;
        self.finish().await;
        self.workers.borrow_mut().stop();
    }

    /// Answers those who asked for the end, and closes the admin API.
    async fn end_api(&self) {
        self.stopped.cancel();
        *self.admin.borrow_mut() = None;
        *self.remote_admin.borrow_mut() = None;
        let answered = async {
            while Rc::strong_count(&self.api_connections) > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // Who does not read the answer is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), answered).await;
    }

    /// Lets those finish who have something to hand over, all at once.
    async fn finish(&self) {
        let all = self.state.single::<Finishers>().live();
        let blocking = all.into_iter().map(|one| tokio::task::spawn_blocking(move || one.finish()));
        for one in blocking.collect::<Vec<_>>() {
            // One that panicked has nothing more to say.
            let _ = one.await;
        }
    }
}

/// Tells requests that come meanwhile when their listeners close (spec G013).
pub(super) fn announce_shutdown(listeners: &HashMap<String, Arc<Listener>>, delay: Duration) {
    let at = std::time::Instant::now() + delay;
    let seconds = delay.as_secs_f64();
    tracing::info!(target: "http", delay = seconds, "shutdown scheduled");
    for listener in listeners.values() {
        // Several listeners share a server.
        let _ = listener.server().shutdown_at.set(at);
    }
}

/// Takes no more connections, and lets those that are open finish.
pub(super) fn close_all(listeners: HashMap<String, Arc<Listener>>) {
    for listener in listeners.into_values() {
        listener.closed.cancel();
        listener.binding().drain.begin();
        listen::remove(&listener.address);
    }
}
