//! Idle connections, per worker and upstream address; nothing here is locked.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use caddis_core::Table;
use caddis_wire::LastHead;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    forward_proxy::{Absolute, Way},
    h2, h3,
    slot::Slot,
    stream::Stream,
};
use crate::upstream::{Address, UpstreamState};

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Bytes of the worker's read buffer for heads.
const SCRATCH: usize = 32 * 1024;
/// Pools of addresses made per request that a worker keeps.
const MAX_NAMED: usize = 1024;

/// Names a pool across workers and plans: same transport settings, same address and the same place
/// among those of a plan that agree in both, same pool. So a handler shares no connection with
/// another one, and finds its own again after a reload.
#[derive(Debug)]
pub(crate) struct PoolId {
    /// Unique in this process.
    pub(crate) id: u64,
    /// `max_conns_per_host`.
    pub(crate) permits: Option<Arc<Semaphore>>,
}

impl PoolId {
    /// The id of a transport (by fingerprint, with the handler's place) and an address.
    pub(crate) fn lease(
        table: &Table<String, Self>,
        fingerprint: &str,
        address: &str,
        max_conns: usize,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        table.lease(format!("{fingerprint} {address}"), || Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            permits: (max_conns > 0).then(|| Arc::new(Semaphore::new(max_conns))),
        })
    }
}

/// A connection with what was read beyond the last message.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The stream.
    pub(crate) stream: Stream,
    /// Bytes read and not used yet.
    pub(crate) buf: BytesMut,
    /// The last head that came.
    pub(crate) last: Box<LastHead>,
    /// Whether it carried a request before.
    pub(crate) reused: bool,
    /// The place it takes under `max_conns_per_host`.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl Conn {
    /// A new connection.
    pub(crate) fn new(stream: Stream, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { stream, buf: BytesMut::new(), last: Box::default(), reused: false, permit }
    }
}

struct Idle {
    conn: Conn,
    since: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

/// Settings for idle connections.
#[derive(Debug, Clone)]
pub(crate) struct KeepAlive {
    /// Whether connections are kept at all.
    pub(crate) enabled: bool,
    /// How long one may be idle.
    pub(crate) idle_timeout: Duration,
    /// How many are kept to one address, by each worker.
    pub(crate) max_idle: usize,
    /// Places for idle connections to all addresses, if there is a limit.
    pub(crate) total: Option<Arc<Semaphore>>,
}

impl KeepAlive {
    /// Nothing is kept.
    pub(crate) const OFF: Self =
        Self { enabled: false, idle_timeout: Duration::ZERO, max_idle: 0, total: None };
}

/// The connections of one worker to one address.
pub(crate) struct HostPool {
    /// Where they lead.
    pub(crate) address: Address,
    /// The forward proxy on the way there.
    pub(crate) way: Option<Box<Way>>,
    idle: RefCell<Vec<Idle>>,
    h2: OnceCell<Box<Slot<h2::Session>>>,
    h3: OnceCell<Box<Slot<h3::Session>>>,
    /// The upstream was asked for HTTP/2 over TLS and chose HTTP/1.
    pub(crate) only_h1: Cell<bool>,
    /// What is to be kept.
    pub(crate) keep: KeepAlive,
    /// The limit on connections.
    pub(crate) permits: Option<Arc<Semaphore>>,
    /// Counters of the upstream.
    pub(crate) state: Arc<UpstreamState>,
    owner: Weak<PoolId>,
    orphan: Cell<bool>,
}

impl HostPool {
    /// An empty pool.
    pub(crate) fn new(
        address: Address,
        way: Option<Box<Way>>,
        keep: KeepAlive,
        owner: &Arc<PoolId>,
        state: Arc<UpstreamState>,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            way,
            idle: RefCell::default(),
            h2: OnceCell::new(),
            h3: OnceCell::new(),
            only_h1: Cell::new(false),
            keep,
            permits: owner.permits.clone(),
            state,
            owner: Arc::downgrade(owner),
            orphan: Cell::new(false),
        })
    }

    /// A pool that keeps nothing, for single exchanges.
    pub(crate) fn detached(address: Address, way: Option<Box<Way>>) -> Rc<Self> {
        Rc::new(Self {
            address,
            way,
            idle: RefCell::default(),
            h2: OnceCell::new(),
            h3: OnceCell::new(),
            only_h1: Cell::new(false),
            keep: KeepAlive::OFF,
            permits: None,
            state: Arc::default(),
            owner: Weak::new(),
            orphan: Cell::new(true),
        })
    }

    /// The HTTP/2 connections.
    pub(crate) fn h2(&self) -> &Slot<h2::Session> {
        self.h2.get_or_init(Box::default)
    }

    /// The HTTP/3 connections.
    pub(crate) fn h3(&self) -> &Slot<h3::Session> {
        self.h3.get_or_init(Box::default)
    }

    /// The form of requests, where a forward proxy reads them.
    pub(crate) fn absolute(&self) -> Option<&Absolute> {
        self.way.as_ref()?.absolute.as_ref()
    }

    /// The most recently used connection that is still silent: one that was closed, or on which
    /// the upstream spoke unasked, is dropped.
    pub(crate) fn take(&self) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut conn, _place, .. }) = idle.pop() {
            if is_silent(&mut conn.stream) {
                conn.reused = true;
                return Some(conn);
            }
        }
        None
    }

    /// Keeps a connection for the next request; it is idle from `since` on.
    pub(crate) fn put(&self, mut conn: Conn, since: Instant) {
        if !self.keeps() {
            return;
        }
        conn.stream.rest();
        conn.permit = None;
        conn.buf = BytesMut::new();
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.keep.max_idle {
            return;
        }
        let mut place = None;
        if let Some(total) = &self.keep.total {
            place = total.clone().try_acquire_owned().ok();
            if place.is_none() {
                // The one that was idle for longest makes room, as long as it is one of these.
                if idle.is_empty() {
                    return;
                }
                place = idle.remove(0)._place;
            }
        }
        idle.push(Idle { conn, since, _place: place });
    }

    /// Closes what was idle for too long or was closed by the upstream.
    fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|idle| {
            now.duration_since(idle.since) < self.keep.idle_timeout
                && is_silent(&mut idle.conn.stream)
        });
        if let Some(slot) = self.h2.get() {
            slot.sweep(now, self.keep.idle_timeout);
        }
        if let Some(slot) = self.h3.get() {
            slot.sweep(now, self.keep.idle_timeout);
        }
    }

    /// Whether a connection is kept.
    fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
            && self.h2.get().is_none_or(|slot| slot.is_empty())
            && self.h3.get().is_none_or(|slot| slot.is_empty())
    }

    /// Whether connections are to be kept for later requests.
    pub(crate) fn keeps(&self) -> bool {
        self.keep.enabled && !self.orphan.get()
    }

    /// Whether a plan still uses it.
    fn is_used(&self) -> bool {
        let used = self.owner.strong_count() > 0;
        if !used {
            self.orphan.set(true);
        }
        used
    }

    #[cfg(test)]
    pub(crate) fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }
}

/// Whether a request is using it.
fn is_shared(pool: &Rc<HostPool>) -> bool {
    Rc::strong_count(pool) > 1
}

/// Whether nothing arrived, not even the end. No system call where no event was seen.
fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
}

/// Hashes numbers that are unique already.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// What one worker keeps for this crate: buffers and pools.
#[derive(Default)]
pub(crate) struct Local {
    fixed: RefCell<HashMap<u64, Rc<HostPool>, BuildHasherDefault<NumberHasher>>>,
    named: RefCell<HashMap<(u64, String), Rc<HostPool>>>,
    scratch: RefCell<Vec<u8>>,
    head: RefCell<Vec<u8>>,
    sweeping: Cell<bool>,
}

impl Local {
    /// The pool of a fixed address.
    pub(crate) fn fixed(
        self: &Rc<Self>,
        owner: &Arc<PoolId>,
        make: impl FnOnce() -> Rc<HostPool>,
    ) -> Rc<HostPool> {
        if let Some(pool) = self.fixed.borrow().get(&owner.id) {
            return pool.clone();
        }
        self.start_sweeping();
        let pool = make();
        self.fixed.borrow_mut().insert(owner.id, pool.clone());
        pool
    }

    /// The pool of an address that was made for this request.
    pub(crate) fn named(
        self: &Rc<Self>,
        owner: &Arc<PoolId>,
        name: String,
        make: impl FnOnce() -> Rc<HostPool>,
    ) -> Rc<HostPool> {
        let key = (owner.id, name);
        if let Some(pool) = self.named.borrow().get(&key) {
            return pool.clone();
        }
        self.start_sweeping();
        let pool = make();
        let mut named = self.named.borrow_mut();
        if named.len() >= MAX_NAMED {
            named.clear();
        }
        named.insert(key, pool.clone());
        pool
    }

    /// Closes all idle connections of the worker; whether there were any.
    pub(crate) fn close_idle(&self) -> bool {
        let mut closed = false;
        let mut close = |pool: &Rc<HostPool>| {
            closed |= !std::mem::take(&mut *pool.idle.borrow_mut()).is_empty();
        };
        self.fixed.borrow().values().for_each(&mut close);
        self.named.borrow().values().for_each(&mut close);
        closed
    }

    /// Reads once into the worker's buffer and shows what came; `None` is the end.
    pub(crate) fn read<T>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
        show: impl FnOnce(&mut Context<'_>, Option<&[u8]>) -> T,
    ) -> Poll<io::Result<T>> {
        let mut scratch = self.scratch.borrow_mut();
        if scratch.is_empty() {
            scratch.resize(SCRATCH, 0);
        }
        let mut buf = ReadBuf::new(&mut scratch);
        match Pin::new(stream).poll_read(cx, &mut buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let data = buf.filled();
                Poll::Ready(Ok(show(cx, (!data.is_empty()).then_some(data))))
            }
        }
    }

    /// Lends the worker's buffer for a request head, empty.
    pub(crate) fn with_head<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut head = self.head.borrow_mut();
        head.clear();
        let result = work(&mut head);
        if head.capacity() > 256 * 1024 {
            *head = Vec::new();
        }
        result
    }

    fn start_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let local = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(local) = local.upgrade() else { return };
                local.sweep(Instant::now());
            }
        });
    }

    fn sweep(&self, now: Instant) {
        let keep = |pool: &Rc<HostPool>| {
            pool.sweep(now);
            pool.is_used()
        };
        // One that keeps nothing is made anew when it is needed, so thousands of handlers cost no
        // more than those that have connections.
        let keep = |pool: &Rc<HostPool>| keep(pool) && (!pool.is_empty() || is_shared(pool));
        self.fixed.borrow_mut().retain(|_, pool| keep(pool));
        self.named.borrow_mut().retain(|_, pool| keep(pool));
    }
}
