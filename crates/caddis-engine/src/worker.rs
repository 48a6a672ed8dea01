//! One thread per core: its runtime, its sockets, its connections.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use caddis_core::{Connection, Worker};
use smol_str::SmolStr;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection,
    listen::Listener,
    quic::{self, QuicSlot},
};

/// The threads that serve connections.
pub(crate) struct Workers {
    threads: Vec<Thread>,
    /// Connections that are open now, by thread.
    loads: Loads,
}

/// So many connections more do not make a worker a busy one.
const SLACK: usize = 2;

/// Open connections of each worker, and the way to each worker.
#[derive(Clone)]
struct Loads {
    open: Arc<[AtomicUsize]>,
    commands: Arc<[mpsc::UnboundedSender<Command>]>,
}

impl Loads {
    /// The first worker that has hardly more connections than the one with the fewest.
    /// SO_REUSEPORT alone may put long-lived connections unevenly; and while there are few, one
    /// worker with warm upstream connections serves them best.
    fn lightest(&self) -> usize {
        let open = || self.open.iter().map(|open| open.load(Ordering::Relaxed));
        let fewest = open().min().unwrap_or(0);
        open().position(|open| open <= fewest + SLACK).unwrap_or(0)
    }
}

struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    join: Option<JoinHandle<()>>,
}

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen(Arc<Listener>, WorkerSocket),
    /// Accept QUIC connections on this socket.
    Quic(Arc<QuicSlot>, quic::WorkerSocket),
    /// Serve a connection that another worker accepted.
    Serve(Arc<Listener>, std::net::TcpStream, Box<Connection>, OpenGuard),
    /// End the thread, whatever is open.
    Stop,
}

/// A worker's own socket.
pub(crate) enum WorkerSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Workers {
    /// Starts so many threads.
    ///
    /// # Errors
    /// The system refused one of them, or its runtime: connections are dealt out to all of them.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (commands, inboxes): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let loads = Loads {
            open: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            commands: commands.clone().into(),
        };
        let refused = |error: &io::Error| {
            let why = caddis_core::error::plain(error);
            let text = format!(
                "starting {count} workers: {why}; allow more (`ulimit -n`, `LimitNOFILE=`), or set \
                 GOMAXPROCS to fewer workers"
            );
            io::Error::new(error.kind(), text)
        };
        let (ready, started) = std::sync::mpsc::channel();
        let mut threads = Vec::with_capacity(count);
        for (at, (commands, inbox)) in commands.into_iter().zip(inboxes).enumerate() {
            let (loads, ready) = (loads.clone(), ready.clone());
            let join =
                std::thread::Builder::new().name(format!("worker-{}", at + 1)).spawn(move || {
                    let runtime = Builder::new_current_thread()
                        .enable_all()
                        .max_blocking_threads(64)
                        .build_local(LocalOptions::default());
                    // Whoever started this thread waits for it.
                    match runtime {
                        Ok(runtime) => {
                            drop(ready);
                            runtime.block_on(run(at, inbox, loads));
                        }
                        Err(error) => drop(ready.send(error)),
                    }
                });
            let join = join.map_err(|error| refused(&error))?;
            threads.push(Thread { commands, join: Some(join) });
        }
        drop(ready);
        let mut workers = Self { threads, loads };
        // Ends without an error when all have let go of their end.
        let Ok(error) = started.recv() else { return Ok(workers) };
        workers.stop();
        Err(refused(&error))
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> impl Fn() -> usize + use<> {
        let open = self.loads.open.clone();
        move || open.iter().map(|open| open.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Hands a socket to each worker.
    pub(crate) fn listen(
        &self,
        listener: &Arc<Listener>,
        socket: crate::listen::BoundSocket,
    ) -> io::Result<()> {
        use crate::listen::BoundSocket;
        let sockets: Vec<WorkerSocket> = match socket {
            BoundSocket::Tcp(sockets, _) => sockets.into_iter().map(WorkerSocket::Tcp).collect(),
            BoundSocket::Unix(socket) => self
                .threads
                .iter()
                .map(|_| socket.try_clone().map(WorkerSocket::Unix))
                .collect::<io::Result<_>>()?,
            BoundSocket::Datagrams => Vec::new(),
        };
        for (thread, socket) in self.threads.iter().zip(sockets) {
            // A worker ends only when told to; a failed send means the process is ending.
            let _ = thread.commands.send(Command::Listen(listener.clone(), socket));
        }
        Ok(())
    }

    /// Hands a UDP socket to each worker.
    pub(crate) fn listen_quic(&self, slot: &Arc<QuicSlot>, sockets: Vec<quic::WorkerSocket>) {
        for (thread, socket) in self.threads.iter().zip(sockets) {
            let _ = thread.commands.send(Command::Quic(slot.clone(), socket));
        }
    }

    /// Ends all threads.
    pub(crate) fn stop(&mut self) {
        for thread in &self.threads {
            let _ = thread.commands.send(Command::Stop);
        }
        for thread in &mut self.threads {
            if let Some(join) = thread.join.take() {
                // A panicked worker has said so already.
                let _ = join.join();
            }
        }
    }
}

async fn run(at: usize, mut inbox: mpsc::UnboundedReceiver<Command>, loads: Loads) {
    let worker = Worker::new(at + 1);
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(listener, socket) => {
                let accept = Accept { at, listener, worker: worker.clone(), loads: loads.clone() };
                match accept.start(socket) {
                    Ok(task) => {
                        tokio::task::spawn_local(task);
                    }
                    Err(error) => {
                        tracing::error!(target: "http", %error, "a socket could not be used");
                    }
                }
            }
            Command::Quic(slot, socket) => {
                let place = (at, loads.open.clone());
                tokio::task::spawn_local(quic::serve(slot, socket, place, worker.clone()));
            }
            Command::Serve(listener, stream, connection, guard) => {
                if let Ok(stream) = TcpStream::from_std(stream) {
                    serve(stream, *connection, listener, worker.clone(), guard);
                }
            }
            Command::Stop => return,
        }
    }
}

fn serve(
    stream: impl caddis_core::exchange::Io + 'static,
    connection: Connection,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
    guard: OpenGuard,
) {
    tokio::task::spawn_local(async move {
        let _guard = guard;
        connection::serve(stream, connection, listener, worker).await;
    });
}

struct Accept {
    at: usize,
    listener: Arc<Listener>,
    worker: Rc<Worker>,
    loads: Loads,
}

impl Accept {
    fn start(self, socket: WorkerSocket) -> io::Result<impl Future<Output = ()>> {
        enum Socket {
            Tcp(TcpListener),
            Unix(UnixListener),
        }
        let socket = match socket {
            WorkerSocket::Tcp(socket) => Socket::Tcp(TcpListener::from_std(socket)?),
            WorkerSocket::Unix(socket) => Socket::Unix(UnixListener::from_std(socket)?),
        };
        Ok(async move {
            match socket {
                Socket::Tcp(socket) => self.tcp(socket).await,
                Socket::Unix(socket) => self.unix(socket).await,
            }
        })
    }

    async fn tcp(self, socket: TcpListener) {
        loop {
            match until(&self.listener.closed, socket.accept()).await {
                None => break,
                Some(Ok((stream, remote))) => self.place(stream, remote),
                Some(Err(error)) => pause(&error).await,
            }
        }
        // Connections that the kernel completed before the close are still served.
        while let Some(Ok((stream, remote))) = now(socket.accept()).await {
            self.place(stream, remote);
        }
    }

    /// Serves a connection here, or hands it to the worker with the fewest.
    fn place(&self, stream: TcpStream, remote: SocketAddr) {
        let local = stream.local_addr().ok();
        let local_name = SmolStr::default();
        let remote_ip = SmolStr::default();
        let mut connection = Connection { remote: None, remote_ip, local, local_name, tls: None };
        connection.set_remote(remote);
        let target = self.loads.lightest();
        let guard = OpenGuard::new(&self.loads.open, target);
        let listener = self.listener.clone();
        if target == self.at {
            return serve(stream, connection, listener, self.worker.clone(), guard);
        }
        if let (Ok(stream), Some(commands)) = (stream.into_std(), self.loads.commands.get(target)) {
            // A worker ends only with the process.
            let _ = commands.send(Command::Serve(listener, stream, Box::new(connection), guard));
        }
    }

    async fn unix(self, socket: UnixListener) {
        loop {
            match until(&self.listener.closed, socket.accept()).await {
                None => return,
                Some(Ok((stream, _))) => {
                    let address = &self.listener.address;
                    let path = address.unix_path_and_mode().map_or("", |(path, _)| path);
                    let local_name = SmolStr::from(path);
                    let remote_ip = SmolStr::default();
                    let connection =
                        Connection { remote: None, remote_ip, local: None, local_name, tls: None };
                    let guard = OpenGuard::new(&self.loads.open, self.at);
                    serve(stream, connection, self.listener.clone(), self.worker.clone(), guard);
                }
                Some(Err(error)) => pause(&error).await,
            }
        }
    }
}

/// Counts an open connection.
pub(crate) struct OpenGuard {
    open: Arc<[AtomicUsize]>,
    at: usize,
}

impl OpenGuard {
    pub(crate) fn new(open: &Arc<[AtomicUsize]>, at: usize) -> Self {
        open[at].fetch_add(1, Ordering::Relaxed);
        Self { open: open.clone(), at }
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.open[self.at].fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until<T>(closed: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = closed.cancelled() => None,
    }
}

/// The output if it is there at once.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// After a failed accept: out of descriptors gets better only with time.
async fn pause(error: &io::Error) {
    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) {
        if is_told() {
            tracing::error!(
                target: "http",
                %error,
                "accepting a connection failed; connections wait until others end"
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether a failed accept is told: once a second and thread, since it fails again and again.
fn is_told() -> bool {
    thread_local! {
        static LAST: std::cell::Cell<Option<std::time::Instant>> = const { std::cell::Cell::new(None) };
    }
    let now = std::time::Instant::now();
    let silent = |last: std::time::Instant| now.duration_since(last) < Duration::from_secs(1);
    if LAST.get().is_some_and(silent) {
        return false;
    }
    LAST.set(Some(now));
    true
}
