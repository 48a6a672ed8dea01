//! A writer's thread and the buffer before it. Whoever logs copies a line into the buffer; the
//! thread takes all that has gathered and writes it at once. A full buffer drops lines and counts
//! them, so that a slow disk never holds up a request.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::Sink;

/// Bytes that may wait for the thread.
const LIMIT: usize = 16 << 20;
/// A buffer that grew beyond this is given back.
const KEEP: usize = 1 << 20;
/// The shortest time from one write to the next: bounds the wake-ups under load, while a line that
/// comes alone is written at once.
const GATHER: Duration = Duration::from_millis(1);

/// A writer with its thread; dropping it ends the thread once all is written.
pub(crate) struct Writer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the thread: lines came, or the end.
    wake: Condvar,
    /// For those who flush: lines were written.
    done: Condvar,
    /// Lines that did not fit, and those that got lost in writing.
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    ends: Vec<usize>,
    /// Whether the thread waits to be woken.
    waiting: bool,
    closed: bool,
    /// Whether someone waits for the thread.
    hurry: bool,
    taken: u64,
    written: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    /// Starts the thread; it adds to `dropped` what it had to drop.
    pub(crate) fn spawn(
        name: &str,
        sink: Box<dyn Sink>,
        dropped: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { dropped, ..Shared::default() });
        let of_thread = shared.clone();
        let name: String = name.chars().filter(|c| *c != '\0').take(10).collect();
        thread::Builder::new().name(format!("log {name}")).spawn(move || run(&of_thread, sink))?;
        Ok(Self(shared))
    }

    /// Hands a line over; never waits for the disk.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut queue = self.0.lock();
        if queue.lines.len() + line.len() > LIMIT {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.lines.extend_from_slice(line);
        let end = queue.lines.len();
        queue.ends.push(end);
        if std::mem::take(&mut queue.waiting) {
            drop(queue);
            self.0.wake.notify_one();
        }
    }

    /// Waits until all lines handed over so far are written, at most until the deadline.
    pub(crate) fn flush(&self, deadline: Instant) -> bool {
        let mut queue = self.0.lock();
        let target = queue.taken + queue.ends.len() as u64;
        while queue.written < target {
            queue.hurry = true;
            self.0.wake.notify_one();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self.0.done.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
    }
}

fn run(shared: &Shared, mut sink: Box<dyn Sink>) {
    let (mut lines, mut ends) = (Vec::new(), Vec::new());
    let mut told = Told { dropped: shared.dropped.load(Ordering::Relaxed), at: None };
    let mut last: Option<Instant> = None;
    loop {
        let mut queue = shared.lock();
        while queue.ends.is_empty() && !queue.closed {
            queue.waiting = true;
            let waits = |queue: &mut Queue| queue.ends.is_empty() && !queue.closed;
            queue = match sink.next() {
                None => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let waited = shared.wake.wait_timeout_while(queue, time, waits);
                    let (queue, result) = waited.unwrap_or_else(PoisonError::into_inner);
                    if result.timed_out() {
                        drop(queue);
                        sink.tick();
                        shared.lock()
                    } else {
                        queue
                    }
                }
            };
        }
        queue.waiting = false;
        if queue.ends.is_empty() {
            drop(queue);
            told.tell(shared, true);
            return;
        }
        let rest = last.map_or(Duration::ZERO, |last| GATHER.saturating_sub(last.elapsed()));
        if !rest.is_zero() && !queue.closed && !queue.hurry {
            queue = shared
                .wake
                .wait_timeout_while(queue, rest, |queue| !queue.closed && !queue.hurry)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        queue.hurry = false;
        std::mem::swap(&mut queue.lines, &mut lines);
        std::mem::swap(&mut queue.ends, &mut ends);
        let count = ends.len() as u64;
        queue.taken += count;
        drop(queue);

        let lost = sink.write(&lines, &ends) as u64;
        shared.dropped.fetch_add(lost, Ordering::Relaxed);
        last = Some(Instant::now());
        lines.clear();
        ends.clear();
        if lines.capacity() > KEEP {
            lines = Vec::new();
        }
        told.tell(shared, false);
        shared.lock().written += count;
        shared.done.notify_all();
    }
}

/// How many lost entries were told of, and when.
struct Told {
    dropped: u64,
    at: Option<Instant>,
}

impl Told {
    fn tell(&mut self, shared: &Shared, last: bool) {
        let dropped = shared.dropped.load(Ordering::Relaxed);
        let pause = !last && self.at.is_some_and(|at| at.elapsed() < super::PAUSE);
        if dropped > self.dropped && !pause {
            let count = dropped - self.dropped;
            super::complain(&format!("log writer too slow or broken: {count} entries dropped"));
            *self = Self { dropped, at: Some(Instant::now()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        sync::mpsc::{Receiver, Sender, channel},
        time::{Duration, Instant},
    };

    use super::{LIMIT, Writer};
    use crate::writers::Sink;

    /// Shows each batch, and waits for leave to go on.
    struct Slow(Sender<Vec<u8>>, Receiver<()>);

    impl Sink for Slow {
        fn write(&mut self, lines: &[u8], _: &[usize]) -> usize {
            let _ = self.0.send(lines.to_vec());
            let _ = self.1.recv();
            0
        }
    }

    #[test]
    fn lines_arrive_in_order_and_overflow_is_counted() {
        let (batches, seen) = channel();
        let (go, leave) = channel();
        let writer = Writer::spawn("test", Box::new(Slow(batches, leave)), Arc::default()).unwrap();
        writer.push(b"one\n");
        assert_eq!(seen.recv().unwrap(), b"one\n");
        assert!(!writer.flush(Instant::now()));
        let big = vec![b'x'; LIMIT / 2];
        for _ in 0..3 {
            writer.push(&big);
        }
        assert_eq!(writer.dropped(), 1);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(writer.flush(Instant::now() + Duration::from_secs(30)));
        assert_eq!(seen.recv().unwrap().len(), LIMIT);
        writer.push(b"last\n");
        drop(go);
        drop(writer);
        assert_eq!(seen.recv().unwrap(), b"last\n");
        assert!(seen.recv().is_err(), "the thread has ended");
    }
}
