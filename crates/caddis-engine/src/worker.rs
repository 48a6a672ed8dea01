//! One thread per core: its runtime, its sockets, its connections.

use std::{
    io,
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
    net::{TcpListener, UnixListener},
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{connection, listen::Listener};

/// The threads that serve connections.
pub(crate) struct Workers {
    threads: Vec<Thread>,
    /// Connections that are open now, on all threads.
    pub(crate) open: Arc<AtomicUsize>,
}

struct Thread {
    commands: mpsc::UnboundedSender<Command>,
    join: Option<JoinHandle<()>>,
}

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen(Arc<Listener>, WorkerSocket),
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
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let open = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::with_capacity(count);
        for id in 1..=count {
            let runtime = move || {
                Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(64)
                    .build_local(LocalOptions::default())
            };
            let (commands, inbox) = mpsc::unbounded_channel();
            let open = open.clone();
            let join =
                std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
                    match runtime() {
                        Ok(runtime) => runtime.block_on(run(id, inbox, open)),
                        Err(error) => {
                            tracing::error!(target: "engine", %error, "a worker could not start");
                        }
                    }
                })?;
            threads.push(Thread { commands, join: Some(join) });
        }
        Ok(Self { threads, open })
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
            BoundSocket::Tcp(sockets) => sockets.into_iter().map(WorkerSocket::Tcp).collect(),
            BoundSocket::Unix(socket) => self
                .threads
                .iter()
                .map(|_| socket.try_clone().map(WorkerSocket::Unix))
                .collect::<io::Result<_>>()?,
        };
        for (thread, socket) in self.threads.iter().zip(sockets) {
            // A worker ends only when told to; a failed send means the process is ending.
            let _ = thread.commands.send(Command::Listen(listener.clone(), socket));
        }
        Ok(())
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

async fn run(id: usize, mut inbox: mpsc::UnboundedReceiver<Command>, open: Arc<AtomicUsize>) {
    let worker = Worker::new(id);
    let tracker = TaskTracker::new();
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Listen(listener, socket) => {
                let accept = Accept { listener, worker: worker.clone(), open: open.clone() };
                match accept.start(socket) {
                    Ok(task) => {
                        tracker.spawn_local(task);
                    }
                    Err(error) => {
                        tracing::error!(target: "http", %error, "a socket could not be used");
                    }
                }
            }
            Command::Stop => return,
        }
    }
}

struct Accept {
    listener: Arc<Listener>,
    worker: Rc<Worker>,
    open: Arc<AtomicUsize>,
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
            let accepted = until(&self.listener.closed, socket.accept()).await;
            match accepted {
                None => break,
                Some(Ok((stream, remote))) => {
                    let connection = Connection {
                        remote: Some(remote),
                        local: stream.local_addr().ok(),
                        local_name: SmolStr::default(),
                        tls: None,
                    };
                    self.spawn(stream, connection);
                }
                Some(Err(error)) => pause(&error).await,
            }
        }
        // Connections that the kernel completed before the close are still served.
        while let Some(Ok((stream, remote))) = now(socket.accept()).await {
            let local = stream.local_addr().ok();
            let local_name = SmolStr::default();
            self.spawn(stream, Connection { remote: Some(remote), local, local_name, tls: None });
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
                    self.spawn(
                        stream,
                        Connection { remote: None, local: None, local_name, tls: None },
                    );
                }
                Some(Err(error)) => pause(&error).await,
            }
        }
    }

    fn spawn(&self, stream: impl caddis_core::exchange::Io + 'static, connection: Connection) {
        let guard = OpenGuard::new(&self.open);
        let (listener, worker) = (self.listener.clone(), self.worker.clone());
        tokio::task::spawn_local(async move {
            let _guard = guard;
            connection::serve(stream, connection, listener, worker).await;
        });
    }
}

/// Counts an open connection.
struct OpenGuard(Arc<AtomicUsize>);

impl OpenGuard {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        tracing::error!(target: "http", %error, "accepting a connection failed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
