//! The model server: it answers at once, and costs little. A stream has its first content at once too; `max_tokens` is the number of
//! its events with content, `seed` the milliseconds between two of them.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::{
    net::TcpListener,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::placement;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Four words it is."},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}"#;
const FIRST: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

"#;
const EVENT: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}

"#;
const LAST: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16}}

data: [DONE]

"#;

/// What the model server reads of a request.
#[derive(Deserialize, Default)]
struct Asked {
    #[serde(default)]
    stream: bool,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    seed: u64,
}

/// Starts it on a thread of its own, on the load's core, and returns its address.
pub fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        placement::use_core(placement::LOAD);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { serve(TcpListener::from_std(listener).unwrap()).await });
    });
    address
}

async fn serve(listener: TcpListener) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        connection.set_nodelay(true).unwrap();
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(connection), service_fn(answer)),
        );
    }
}

type Body = Either<Full<Bytes>, StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    // A GET, e.g. of another gateway that looks whether its upstream is there, has none.
    let asked: Asked = serde_json::from_slice(&body).unwrap_or_default();
    if !asked.stream {
        let mut response = Response::new(Either::Left(Full::from(ANSWER)));
        response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
        return Ok(response);
    }
    let events = asked.max_completion_tokens.or(asked.max_tokens).unwrap_or(1);
    let pace = Duration::from_millis(asked.seed.max(1));
    let frame = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    let mut ticks = interval_at(Instant::now() + pace, pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let paced = stream::unfold((ticks, events.saturating_sub(1)), move |(mut ticks, left)| async move {
        let left = left.checked_sub(1)?;
        ticks.tick().await;
        Some((frame(EVENT), (ticks, left)))
    });
    let all =
        stream::iter([frame(FIRST), frame(EVENT)]).chain(paced).chain(stream::iter([frame(LAST)])).boxed();
    let mut response = Response::new(Either::Right(StreamBody::new(all)));
    response.headers_mut().insert(CONTENT_TYPE, "text/event-stream".parse().unwrap());
    Ok(response)
}
