//! Connections and responses: parses requests with hyper, sends the steps of the scripted reply, resets and cuts included, and
//! counts the clients that leave early.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{
    NO_FIELDS, RecordedRequest, Shared,
    reply::Pause,
    route_of,
    wire::{self, InferenceRequest, SendStep},
};

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// Accepts connections and owns them: they end with this task.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                shared.counts.send_modify(|counts| counts.connections += 1);
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    // A second handle on the same socket, which can turn its close into a reset.
    let stream = stream.into_std().unwrap();
    let handle = Arc::new(TcpStream::from_std(stream.try_clone().unwrap()).unwrap());
    let stream = TcpStream::from_std(stream).unwrap();
    let service = service_fn(move |request| {
        let (shared, handle) = (Arc::clone(&shared), Arc::clone(&handle));
        async move { answer(&shared, &handle, request).await }
    });
    // An error is a scripted fault or a client that left; both are counted where they happen.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Responds to a request; an error closes the connection without a response.
async fn answer(
    shared: &Arc<Shared>,
    handle: &TcpStream,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let mut in_flight = InFlight { shared: Arc::clone(shared), over: false };
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.to_string();
    let recorded = RecordedRequest {
        method: head.method.clone(),
        path: path.clone(),
        headers: head.headers.clone(),
        body: body.clone(),
    };
    shared.requests.lock().unwrap().push(recorded.clone());
    shared.counts.send_modify(|counts| counts.requests += 1);

    let Some(route) = route_of(&path).filter(|_| head.method == Method::POST) else {
        let (status, body) = shared.script.lock().unwrap().other_route(&head.method, &path, &head.headers);
        return Ok(respond(status, &[json_type()], Some(body.len()), vec![SendStep::Send(body)], in_flight));
    };
    if let Some((status, body)) = shared.script.lock().unwrap().rejection(&head.headers) {
        let steps = vec![SendStep::Send(body)];
        return Ok(respond(status, &[json_type()], None, steps, in_flight));
    }
    if body == NO_FIELDS {
        let (status, body) = shared.script.lock().unwrap().empty_request(route);
        return Ok(respond(status, &[json_type()], Some(body.len()), vec![SendStep::Send(body)], in_flight));
    }
    let reply = shared.script.lock().unwrap().next(&recorded);

    if reply.reset {
        in_flight.over = true;
        handle.set_zero_linger().unwrap();
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if let Some(pause) = &reply.before_head {
        wait(pause).await;
    }
    if let Some(body) = &reply.body {
        return Ok(respond(
            reply.status,
            &reply.headers,
            Some(body.len()),
            vec![SendStep::Send(body.clone())],
            in_flight,
        ));
    }
    let Some(request) = InferenceRequest::read(route, &body) else {
        let body =
            Bytes::from_static(br#"{"error":{"message":"not a request","type":"invalid_request_error"}}"#);
        let length = Some(body.len());
        return Ok(respond(
            StatusCode::BAD_REQUEST,
            &[json_type()],
            length,
            vec![SendStep::Send(body)],
            in_flight,
        ));
    };
    let (kind, length, steps) = if request.stream {
        ("text/event-stream", None, wire::stream(&request, &reply))
    } else {
        let (length, steps) = wire::whole(&request, &reply);
        ("application/json", Some(length), steps)
    };
    let headers: Vec<_> =
        [("content-type".to_owned(), kind.to_owned())].into_iter().chain(reply.headers).collect();
    Ok(respond(reply.status, &headers, length, steps, in_flight))
}

fn respond(
    status: StatusCode,
    headers: &[(String, String)],
    length: Option<usize>,
    steps: Vec<SendStep>,
    in_flight: InFlight,
) -> Response<Body> {
    let body = stream::unfold((steps.into_iter(), in_flight), |(mut steps, mut in_flight)| async move {
        loop {
            match steps.next() {
                Some(SendStep::Send(bytes)) => {
                    // The client may leave as soon as it has all bytes of a known length.
                    if steps.len() == 0 {
                        in_flight.complete();
                    }
                    return Some((Ok(Frame::data(bytes)), (steps, in_flight)));
                }
                Some(SendStep::Pause(pause)) => wait(&pause).await,
                Some(SendStep::Cut) => {
                    in_flight.over = true;
                    // Yielding lets the connection flush what was sent before.
                    tokio::task::yield_now().await;
                    return Some((Err(io::ErrorKind::ConnectionAborted.into()), (steps, in_flight)));
                }
                None => {
                    in_flight.complete();
                    return None;
                }
            }
        }
    });
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    response.body(StreamBody::new(body.boxed())).expect("the script's headers are valid")
}

async fn wait(pause: &Pause) {
    match pause {
        Pause::Forever => std::future::pending().await,
        Pause::For(duration) => tokio::time::sleep(*duration).await,
        Pause::Gate(gate) => gate.wait().await,
    }
}

/// Counts a client that left, where it is dropped before the reply is over.
struct InFlight {
    shared: Arc<Shared>,
    over: bool,
}

impl InFlight {
    fn complete(&mut self) {
        if !self.over {
            self.over = true;
            self.shared.counts.send_modify(|counts| counts.completed += 1);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.over {
            self.shared.counts.send_modify(|counts| counts.disconnects += usize::from(!counts.stopping));
        }
    }
}

fn json_type() -> (String, String) {
    ("content-type".into(), "application/json".into())
}
