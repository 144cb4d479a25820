//! Requests, on kept connections, and what they took.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle};

use crate::rows::{Offer, Row};

/// Connections that share a number of requests per second.
const CONNECTIONS: usize = 64;

/// Where requests go, and with which headers.
#[derive(Clone)]
pub struct Destination {
    pub address: SocketAddr,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What has been answered so far.
#[derive(Default)]
pub struct Answered {
    pub requests: Cell<u64>,
    pub events: Cell<u64>,
    /// Streams that have shown their first content and are open.
    pub open: Cell<usize>,
    times: RefCell<Vec<Duration>>,
    failure: RefCell<Option<String>>,
}

impl Answered {
    /// The times of the answers since the last call.
    pub fn take_times(&self) -> Vec<Duration> {
        self.times.take()
    }

    /// The first answer that was none.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    fn fail(&self, failure: String) {
        self.failure.borrow_mut().get_or_insert(failure);
    }
}

/// Requests that are offered until it is dropped.
pub struct Load {
    pub answered: Rc<Answered>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Offers the requests of a row to a system; within a `LocalSet`.
pub fn start(row: &Row, destination: &Destination) -> Load {
    let answered = Rc::new(Answered::default());
    let caller = || Caller {
        destination: destination.clone(),
        path: row.path,
        body: row.body.clone(),
        answered: Rc::clone(&answered),
    };
    let tasks = match row.offer {
        Offer::Callers(count) | Offer::Held(count) => {
            (0..count).map(|_| tokio::task::spawn_local(caller().call_again_and_again())).collect()
        }
        Offer::PerSecond(rate) => paced(rate, &caller),
    };
    Load { answered, tasks }
}

/// Requests whose times count from when they were due, so that one that has to wait for the one before counts the wait.
fn paced(rate: u32, caller: &dyn Fn() -> Caller) -> Vec<JoinHandle<()>> {
    let (due, next) = mpsc::unbounded_channel();
    let next = Rc::new(tokio::sync::Mutex::new(next));
    let clock = tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        loop {
            let at = ticks.tick().await;
            if due.send(at.into_std()).is_err() {
                return;
            }
        }
    });
    let callers = (0..CONNECTIONS).map(|_| {
        let (caller, next) = (caller(), Rc::clone(&next));
        tokio::task::spawn_local(async move {
            let mut connection = None;
            loop {
                let Some(due) = next.lock().await.recv().await else { return };
                caller.call(&mut connection, due).await;
            }
        })
    });
    std::iter::once(clock).chain(callers).collect()
}

struct Caller {
    destination: Destination,
    path: &'static str,
    body: Bytes,
    answered: Rc<Answered>,
}

type Connection = SendRequest<Full<Bytes>>;

impl Caller {
    async fn call_again_and_again(self) {
        let mut connection = None;
        while self.answered.failure.borrow().is_none() {
            self.call(&mut connection, Instant::now()).await;
        }
    }

    /// One request, and its whole answer.
    async fn call(&self, connection: &mut Option<Connection>, began: Instant) {
        match self.exchange(connection).await {
            Ok(()) => {
                self.answered.requests.set(self.answered.requests.get() + 1);
                self.answered.times.borrow_mut().push(began.elapsed());
            }
            Err(failure) => {
                *connection = None;
                self.answered.fail(failure);
            }
        }
    }

    async fn exchange(&self, kept: &mut Option<Connection>) -> Result<(), String> {
        let is_usable = match kept.as_mut() {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !is_usable {
            *kept = Some(self.connect().await?);
        }
        let connection = kept.as_mut().unwrap();
        let answer = connection.send_request(self.request()).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let mut body = answer.into_body();
        if status != StatusCode::OK {
            let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&text)));
        }
        let mut open = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            let events = frame.data_ref().map_or(0, |data| events(data));
            if events > 0 {
                open.get_or_insert_with(|| Open::new(&self.answered));
                self.answered.events.set(self.answered.events.get() + events);
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, String> {
        let socket = TcpStream::connect(self.destination.address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (connection, driver) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        Ok(connection)
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().unwrap();
        let host = HeaderValue::from_str(&self.destination.address.to_string()).unwrap();
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().extend(self.destination.headers.iter().cloned());
        request
    }
}

/// Counts a stream while it is open.
struct Open(Rc<Answered>);

impl Open {
    fn new(answered: &Rc<Answered>) -> Self {
        answered.open.set(answered.open.get() + 1);
        Self(Rc::clone(answered))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// Events that end in these bytes. None of ours is split between two reads often enough to matter, and one that is counts once or
/// not at all.
fn events(data: &[u8]) -> u64 {
    let ends = data.windows(2).filter(|bytes| bytes == b"\n\n").count();
    u64::try_from(ends).unwrap_or_default()
}
