//! Helpers of this crate's tests: upstreams that follow a script, and a handler ready to run.

use std::{cell::RefCell, future::Future, net::SocketAddr, rc::Rc, sync::Arc};

use caddis_core::{
    CompileCx, Exchange, Handler, HttpError, Next, Registry, Response, Route, RouteList, State,
    metrics::Metrics,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Runs a future on a runtime like a worker's.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// One step of a connection's script.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Reads until the bytes read since the last step of this kind end with this.
    Read(&'static str),
    /// Writes.
    Send(String),
    /// Stays silent and open.
    Hang,
}

/// The same steps again and again.
pub(crate) fn again(steps: &[Step], times: usize) -> Vec<Step> {
    std::iter::repeat_n(steps, times).flatten().cloned().collect()
}

/// Writes a response with a length.
pub(crate) fn reply(body: &str) -> Step {
    Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// The end of a request head.
pub(crate) const HEAD: Step = Step::Read("\r\n\r\n");

/// A server that serves each connection by the next script, and the last script for all others.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    /// What was read, per connection.
    pub(crate) seen: Rc<RefCell<Vec<String>>>,
}

impl Scripted {
    pub(crate) async fn new(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let log = seen.clone();
        tokio::task::spawn_local(async move {
            for at in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                log.borrow_mut().push(String::new());
                let script = scripts[at.min(scripts.len() - 1)].clone();
                tokio::task::spawn_local(follow(stream, script, log.clone(), at));
            }
        });
        Self { address, seen }
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.borrow().len()
    }
}

async fn follow(
    mut stream: TcpStream,
    script: Vec<Step>,
    log: Rc<RefCell<Vec<String>>>,
    at: usize,
) {
    for step in script {
        match step {
            Step::Read(end) => {
                let mut read = String::new();
                while !read.ends_with(end) {
                    let mut byte = [0; 1];
                    match stream.read(&mut byte).await {
                        Ok(1) => read.push(char::from(byte[0])),
                        _ => return,
                    }
                }
                log.borrow_mut()[at].push_str(&read);
            }
            Step::Send(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Step::Hang => std::future::pending().await,
        }
    }
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("bound")
}

/// A compiled handler with the state it was compiled in.
pub(crate) struct Ready {
    pub(crate) routes: RouteList,
    pub(crate) state: Arc<State>,
    pub(crate) tasks: Vec<caddis_core::Task>,
}

pub(crate) fn registry() -> Registry {
    Registry {
        directives: Vec::new(),
        handlers: crate::HANDLERS.iter().chain(caddis_http::HANDLERS).copied().collect(),
        matchers: caddis_http::MATCHERS.to_vec(),
        other_ids: Vec::new(),
        parse_routes: |_| Ok(Vec::new()),
    }
}

/// Compiles `{"handler": "reverse_proxy", …}`.
pub(crate) fn ready_in(
    state: &Arc<State>,
    json: Value,
) -> Result<Ready, caddis_config::ConfigError> {
    let registry = registry();
    let mut cx = CompileCx::new(&registry, state, Arc::new(Metrics::default()));
    let mut json = json;
    json["handler"] = "reverse_proxy".into();
    let handler: Handler = cx.handler(&json)?;
    let route = Route { handlers: vec![handler], ..Route::default() };
    let tasks = std::mem::take(&mut cx.tasks);
    Ok(Ready { routes: RouteList { routes: vec![route] }, state: state.clone(), tasks })
}

pub(crate) fn ready(json: Value) -> Ready {
    ready_in(&Arc::default(), json).expect("compiles")
}

impl Ready {
    /// Runs the handler.
    pub(crate) async fn serve(&self, ex: &mut Exchange) -> Result<Response, HttpError> {
        Next::new(&self.routes, None).run(ex).await
    }

    /// A GET of `/` and the whole body of its answer, or the error's status.
    pub(crate) async fn get(&self, worker: &Rc<caddis_core::Worker>) -> (u16, String) {
        let mut ex = exchange(worker, "/");
        outcome(self.serve(&mut ex).await).await
    }
}

/// Status and body.
pub(crate) async fn outcome(result: Result<Response, HttpError>) -> (u16, String) {
    match result {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = match body.collect(1 << 24).await {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(error) => format!("<{error}>"),
            };
            (parts.status.as_u16(), body)
        }
        Err(error) => (error.status.as_u16(), error.message),
    }
}

pub(crate) fn exchange(worker: &Rc<caddis_core::Worker>, target: &str) -> Box<Exchange> {
    let mut ex = Exchange::for_test(target);
    ex.worker = worker.clone();
    ex
}
