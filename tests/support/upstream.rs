//! A scripted HTTP/1.1 upstream on threads: answers with its name, can be slowed, failed, stopped
//! and started again on the same port.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A running upstream.
pub struct Upstream {
    pub port: u16,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    name: String,
    status: AtomicU16,
    delay: AtomicU64,
    hits: AtomicUsize,
    heads: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl Upstream {
    /// Starts one that answers with its name.
    pub fn start(name: &str) -> Self {
        Self::listen(name, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Starts one on a port that was free a moment ago.
    pub fn start_on(name: &str, port: u16) -> Self {
        let mut listener = None;
        super::eventually("the port is free", || {
            listener = TcpListener::bind(("127.0.0.1", port)).ok();
            listener.is_some()
        });
        Self::listen(name, listener.unwrap())
    }

    fn listen(name: &str, listener: TcpListener) -> Self {
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        shared.status.store(200, Ordering::Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let (served, stopped) = (shared.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                if let Ok(copy) = stream.try_clone() {
                    served.open.lock().unwrap().push(copy);
                }
                let shared = served.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, shared, stop }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on.
    pub fn set_status(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Waits so long before each answer.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// Requests answered so far.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::Relaxed)
    }

    /// Heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, so that the port is closed.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut writer = stream;
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let length = head
            .lines()
            .find_map(|line| {
                line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
            })
            .unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(shared.delay.load(Ordering::Relaxed)));
        shared.hits.fetch_add(1, Ordering::Relaxed);
        shared.heads.lock().unwrap().push(head);
        let status = shared.status.load(Ordering::Relaxed);
        let name = &shared.name;
        let answer = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{name}",
            name.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
