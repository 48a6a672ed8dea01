//! What storages on other machines have in common: calls with a time limit, a peer that is not asked
//! again at once when it is gone, and locks that end with their holder.

use std::{
    fmt,
    future::Future,
    io,
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Handle};

use super::LockGuard;

/// How long a peer that is gone is not asked again, so that many names do not wait one by one.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a waiting process looks whether a lock is free.
const POLL: Duration = Duration::from_secs(1);

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection, or no answer.
    Gone(String),
    /// The peer refused, or gave what cannot be.
    Refused(io::ErrorKind, String),
}

impl Fault {
    pub(super) fn gone(error: impl fmt::Display) -> Self {
        Self::Gone(error.to_string())
    }

    pub(super) fn refused(error: impl fmt::Display) -> Self {
        Self::Refused(io::ErrorKind::Other, error.to_string())
    }

    pub(super) fn not_found(key: &str) -> Self {
        Self::Refused(io::ErrorKind::NotFound, format!("{key}: no such key"))
    }

    /// Content that is garbage: as good as none.
    pub(super) fn garbage(key: &str, error: impl fmt::Display) -> Self {
        Self::Refused(io::ErrorKind::InvalidData, format!("{key}: {error}"))
    }
}

/// The other end of a storage.
#[derive(Debug)]
pub(super) struct Peer {
    name: String,
    limit: Duration,
    /// What to do where it does not answer.
    remedy: &'static str,
    down: Mutex<Option<Down>>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    until: Instant,
    reason: String,
}

impl Peer {
    /// A peer by its name in errors; no call takes longer than `limit`.
    pub(super) fn new(name: String, limit: Duration, remedy: &'static str) -> Self {
        Self { name, limit, remedy, down: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a call. It goes on where the caller's runtime has nothing to do with it, so this
    /// may be called anywhere where blocking is allowed.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> io::Result<T> {
        if let Some(reason) = self.paused() {
            return Err(self.gone(&reason));
        }
        let runtime = runtime()?;
        let (done, answer) = mpsc::sync_channel(1);
        let limit = self.limit;
        runtime.spawn(async move {
            let result = tokio::time::timeout(limit, work).await;
            // Whoever waited may have given up.
            let _ = done.send(result.unwrap_or_else(|_| {
                Err(Fault::Gone(format!("no answer within {} s", limit.as_secs_f32())))
            }));
        });
        // The call has its own limit; this one is for a runtime that is stuck.
        match answer.recv_timeout(limit + PAUSE) {
            Ok(Ok(value)) => {
                self.is_up();
                Ok(value)
            }
            Ok(Err(Fault::Refused(kind, message))) => {
                self.is_up();
                Err(io::Error::new(kind, format!("storage {}: {message}", self.name)))
            }
            Ok(Err(Fault::Gone(reason))) => Err(self.is_down(reason)),
            Err(_) => Err(self.is_down("the call did not end".to_owned())),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paused(&self) -> Option<String> {
        let down = self.lock();
        let down = down.as_ref()?;
        (Instant::now() < down.until).then(|| down.reason.clone())
    }

    fn is_up(&self) {
        let Some(down) = self.lock().take() else { return };
        let seconds = down.since.elapsed().as_secs();
        tracing::info!(target: "storage", storage = self.name, seconds, "storage is back");
    }

    fn is_down(&self, reason: String) -> io::Error {
        let now = Instant::now();
        let error = self.gone(&reason);
        let mut down = self.lock();
        let since = down.as_ref().map_or(now, |down| down.since);
        if down.is_none() {
            tracing::error!(
                target: "storage",
                storage = self.name,
                error = reason,
                remedy = self.remedy,
                "storage is gone: certificates in memory are served on, new ones have to wait"
            );
        }
        *down = Some(Down { since, until: now + PAUSE, reason });
        error
    }

    fn gone(&self, reason: &str) -> io::Error {
        let text = format!("storage {}: {reason} ({})", self.name, self.remedy);
        io::Error::new(io::ErrorKind::NotConnected, text)
    }
}

/// One thread for all storages, started with the first call.
fn runtime() -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Result<Handle, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name("storage".into());
        let spawned = thread.spawn(move || runtime.block_on(std::future::pending::<()>()));
        spawned.map(|_| handle).map_err(|error| error.to_string())
    });
    started.as_ref().map_err(|error| io::Error::other(format!("starting storage thread: {error}")))
}

/// Tries to get a lock until it is free or `wait` is over.
pub(super) fn acquire<T>(
    storage: &str,
    name: &str,
    wait: Duration,
    mut attempt: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(held) = attempt()? {
            return Ok(held);
        }
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            let text = format!("storage {storage}: lock {name} is held by another process");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(POLL.min(left));
    }
}

/// A lock that is renewed as long as this lives.
pub(super) struct Lease {
    /// Asks the keeper whether the lock is still ours; it ends when this is gone.
    keeper: Option<(mpsc::Sender<Question>, thread::JoinHandle<()>)>,
}

/// Where the keeper says whether the lock is still ours.
type Question = mpsc::SyncSender<io::Result<bool>>;

impl LockGuard for Lease {
    fn is_ours(&self) -> io::Result<bool> {
        let Some((keeper, _)) = &self.keeper else { return Ok(false) };
        let (question, answer) = mpsc::sync_channel(1);
        // It ended when the lock was lost.
        let asked = keeper.send(question).is_ok();
        if asked { answer.recv().unwrap_or(Ok(false)) } else { Ok(false) }
    }
}

/// What a lease does with its lock.
pub(super) trait Held: Send + 'static {
    /// What it is, for logs.
    fn name(&self) -> &str;
    /// Puts the end off; false where the lock is not ours any more.
    fn renew(&mut self) -> io::Result<bool>;
    /// Frees the lock if it is ours.
    fn release(&mut self) -> io::Result<()>;
}

impl Lease {
    /// Starts the thread that renews a lock.
    pub(super) fn hold(mut held: impl Held, every: Duration) -> io::Result<Self> {
        let (sender, questions) = mpsc::channel::<Question>();
        let keeper = thread::Builder::new().name("storage-lock".into()).spawn(move || {
            loop {
                let question = match questions.recv_timeout(every) {
                    Ok(question) => Some(question),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                };
                let renewed = held.renew();
                if let Some(question) = question {
                    // Whoever asked waits for it.
                    let _ = question.send(match &renewed {
                        Ok(ours) => Ok(*ours),
                        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                    });
                }
                match renewed {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!(
                            target: "storage",
                            lock = held.name(),
                            "the lock was lost: it ended before it could be renewed"
                        );
                        return;
                    }
                    Err(error) => tracing::warn!(
                        target: "storage",
                        lock = held.name(),
                        %error,
                        "the lock could not be renewed; trying again"
                    ),
                }
            }
            if let Err(error) = held.release() {
                tracing::warn!(
                    target: "storage",
                    lock = held.name(),
                    %error,
                    "the lock could not be freed; it ends by itself"
                );
            }
        })?;
        Ok(Self { keeper: Some((sender, keeper)) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((sender, keeper)) = self.keeper.take() {
            drop(sender);
            // A panic there was told by the thread itself.
            let _ = keeper.join();
        }
    }
}

/// A key below a prefix, both as paths: parts that are empty are left out.
///
/// # Errors
/// `InvalidInput` for parts that lead elsewhere.
pub(super) fn join(prefix: &str, key: &str) -> io::Result<String> {
    let mut out = String::with_capacity(prefix.len() + key.len() + 1);
    for part in prefix.split('/').chain(key.split('/')).filter(|part| !part.is_empty()) {
        if part == "." || part == ".." || part.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "bad storage key"));
        }
        if !out.is_empty() {
            out.push('/');
        }
        out.push_str(part);
    }
    Ok(out)
}

/// What lies directly below a folder, given all keys below it; sorted, each once.
pub(super) fn children<'a>(folder: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let folder = folder.trim_matches('/');
    let start = if folder.is_empty() { 0 } else { folder.len() + 1 };
    let mut all: Vec<String> = keys
        .into_iter()
        .filter_map(|key| {
            let rest = key.get(start..)?;
            let end = rest.find('/').map_or(key.len(), |at| start + at);
            (end > start).then(|| key[..end].to_owned())
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::{Duration, Instant},
    };

    use super::{Fault, Held, Lease, LockGuard, PAUSE, Peer, acquire, children, join};

    #[test]
    fn a_peer_that_does_not_answer_is_not_asked_again_at_once() {
        let peer = Peer::new("test".into(), Duration::from_millis(50), "look at it");
        let error = peer.call(std::future::pending::<Result<(), Fault>>()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
        assert_eq!(error.to_string(), "storage test: no answer within 0.05 s (look at it)");
        let start = Instant::now();
        assert!(peer.call(async { Ok(1) }).is_err());
        assert!(start.elapsed() < Duration::from_millis(40), "nothing was asked");
        std::thread::sleep(PAUSE);
        assert_eq!(peer.call(async { Ok(1) }).unwrap(), 1);
        let refused: io::Result<()> = peer.call(async { Err(Fault::not_found("a")) });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(peer.call(async { Ok(2) }).unwrap(), 2, "a refusal is an answer");
    }

    struct Counted(Arc<[AtomicU32; 2]>);

    impl Held for Counted {
        fn name(&self) -> &str {
            "x"
        }

        fn renew(&mut self) -> io::Result<bool> {
            match self.0[0].fetch_add(1, Ordering::Relaxed) {
                0 => Err(io::Error::other("once")),
                at => Ok(at < 3),
            }
        }

        fn release(&mut self) -> io::Result<()> {
            self.0[1].fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn a_lease_is_renewed_and_freed() {
        let counts = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let lease = Lease::hold(Counted(counts.clone()), Duration::from_secs(60)).unwrap();
        drop(lease);
        assert_eq!(counts[1].load(Ordering::Relaxed), 1);
        let lease = Lease::hold(Counted(counts.clone()), Duration::from_millis(1)).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        while counts[0].load(Ordering::Relaxed) < 4 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(lease);
        let counts = [&counts[0], &counts[1]].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 1], "a lost lock is not freed");
    }

    #[test]
    fn a_lease_tells_whether_it_is_lost() {
        let counts = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let lease = Lease::hold(Counted(counts.clone()), Duration::from_secs(60)).unwrap();
        assert!(lease.is_ours().is_err(), "the storage did not answer");
        assert_eq!([lease.is_ours().unwrap(), lease.is_ours().unwrap()], [true, true]);
        assert_eq!([lease.is_ours().unwrap(), lease.is_ours().unwrap()], [false, false]);
        drop(lease);
        assert_eq!(counts[1].load(Ordering::Relaxed), 0, "a lost lock is not freed");
    }

    #[test]
    fn waiting_for_a_lock_ends() {
        let mut tries = 0;
        let got = acquire("s", "l", Duration::from_secs(5), || {
            tries += 1;
            Ok((tries == 2).then_some(tries))
        });
        assert_eq!(got.unwrap(), 2);
        let error = acquire("s", "l", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn keys_are_paths() {
        assert_eq!(join("caddy", "a/b").unwrap(), "caddy/a/b");
        assert_eq!(join("", "a").unwrap(), "a");
        assert_eq!(join("/x/", "").unwrap(), "x");
        assert!(join("x", "a/../b").is_err());
        let keys = ["a/b/c", "a/b/d", "a/e", "a", "ax"];
        assert_eq!(children("a", keys[..3].iter().copied()), ["a/b", "a/e"]);
        assert_eq!(children("", keys), ["a", "ax"]);
    }
}
