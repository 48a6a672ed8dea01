//! What the answers of one connection may have waiting for the client together.
//!
//! The codec keeps for each stream what the client's window allows. With a large window and a
//! client that does not read, that would be the limit of a stream times their number
//! (CVE-2019-9517); so answers take from one quota, which is there again as soon as all that was
//! written is on its way. Whoever waits first is served first.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::PollSemaphore;

/// Bytes of a connection.
const QUOTA: u32 = 512 * 1024;
/// Bytes of one turn, so that answers take turns.
const TURN: u32 = 128 * 1024;

/// Shared by the connection and its streams.
#[derive(Clone)]
pub(super) struct Quota {
    free: Arc<Semaphore>,
    shared: Rc<Shared>,
}

struct Shared {
    used: Cell<usize>,
    written: Notify,
    /// Of the connection's task.
    waker: RefCell<Waker>,
    last: Cell<bool>,
}

impl Quota {
    pub(super) fn new() -> Self {
        let shared = Shared {
            used: Cell::new(0),
            written: Notify::new(),
            waker: RefCell::new(Waker::noop().clone()),
            last: Cell::new(false),
        };
        Self { free: Arc::new(Semaphore::new(QUOTA as usize)), shared: Rc::new(shared) }
    }

    /// The connection is about to write. To be called by its task.
    pub(super) fn begin(&self, task: &Context<'_>) {
        self.shared.waker.borrow_mut().clone_from(task.waker());
    }

    /// The connection wrote all there was.
    pub(super) fn refill(&self) {
        let used = self.shared.used.take();
        if used > 0 {
            self.free.add_permits(used);
        }
        self.shared.written.notify_waiters();
    }

    /// Waits until all is written that an answer gave to the codec.
    pub(super) async fn written(&self) {
        let written = self.shared.written.notified();
        self.shared.waker.borrow().wake_by_ref();
        written.await;
    }

    /// The connection is to take no more requests.
    pub(super) fn end(&self) {
        self.shared.last.set(true);
        self.shared.waker.borrow().wake_by_ref();
    }

    /// Whether the connection is to take no more requests.
    pub(super) fn is_to_end(&self) -> bool {
        self.shared.last.get()
    }

    /// Waits until something may be written.
    pub(super) async fn open(&self) -> Result<(), AcquireError> {
        if self.free.available_permits() > 0 {
            return Ok(());
        }
        self.free.acquire().await.map(drop)
    }

    /// Waits for its turn to write so many bytes or a part of them.
    pub(super) async fn turn(&self, wanted: usize) -> Result<Turn<'_>, AcquireError> {
        let length = of_turn(wanted);
        let permit = match self.free.try_acquire_many(length) {
            Ok(permit) => permit,
            Err(_) => self.free.acquire_many(length).await?,
        };
        Ok(Turn { permit, used: &self.shared.used })
    }

    /// As [`Quota::turn`], for what polls.
    pub(super) fn poller(&self) -> PollSemaphore {
        PollSemaphore::new(self.free.clone())
    }

    /// So many bytes were written by one that polls.
    pub(super) fn use_up(&self, permit: OwnedSemaphorePermit) {
        let used = &self.shared.used;
        used.set(used.get() + permit.num_permits());
        permit.forget();
    }
}

/// How much of this is for one turn.
pub(super) fn of_turn(wanted: usize) -> u32 {
    u32::try_from(wanted).unwrap_or(TURN).min(TURN)
}

/// Leave to write so many bytes.
pub(super) struct Turn<'a> {
    permit: SemaphorePermit<'a>,
    used: &'a Cell<usize>,
}

impl Turn<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.permit.num_permits()
    }

    /// They were written.
    pub(super) fn used(self) {
        self.used.set(self.used.get() + self.permit.num_permits());
        self.permit.forget();
    }
}
