//! One connection: a request after the other, each within its time and its size.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming as Body;
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use crate::route::{Incoming, Path, Reply, Wants, texts};
use crate::server::{Bounds, Door};

/// Bytes that are read ahead of what is parsed, which bounds all headers of a request together.
const HEADERS: usize = 16 * 1024;

/// How many headers a request may have.
const MOST_HEADERS: usize = 64;

/// How long a connection lives at the most, in times of one request: one that is busy all the time comes again.
const LIVES: u32 = 30;

/// Serves it to its end.
pub(crate) async fn serve(stream: TcpStream, bounds: Bounds, door: Arc<Door>) {
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(answer(request, bounds, &door).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also between two requests.
        .header_read_timeout(bounds.time)
        .max_buf_size(HEADERS)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever does not take the answer is cut off as well.
    let _ = timeout(bounds.time.saturating_mul(LIVES), connection).await;
}

async fn answer(request: Request<Body>, bounds: Bounds, door: &Door) -> Response<Full<Bytes>> {
    let until = Instant::now() + bounds.time;
    let Some(path) = Path::of(request.uri().path()) else {
        return last(Reply::text(404, "there is no such path"));
    };
    if let Some(refusal) = path.refusal(request.method()) {
        return refusal;
    }
    let wants = match path {
        Path::Health => Wants::Health,
        Path::Metrics => Wants::Metrics,
        Path::Webhook(account) => {
            let headers = texts(request.headers());
            match body(request, bounds.body, until).await {
                Ok(body) => Wants::Webhook { account, headers, body },
                Err(refusal) => return last(refusal),
            }
        }
    };
    let (reply, answered) = oneshot::channel();
    if !door.hand_in(Incoming { wants, reply }) {
        return last(Reply::text(503, "not now"));
    }
    match timeout_at(until + Duration::from_secs(1), answered).await {
        Ok(Ok(reply)) => reply.into_response(),
        // It may have been taken all the same; what comes twice does nothing.
        Ok(Err(_)) | Err(_) => last(Reply::text(503, "no answer in time")),
    }
}

/// An answer after which the connection ends: the rest of the request may not have been read.
fn last(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = reply.into_response();
    let close = hyper::header::HeaderValue::from_static("close");
    response.headers_mut().insert(hyper::header::CONNECTION, close);
    response
}

/// The whole body, if it is not too large, and comes in time.
async fn body(request: Request<Body>, most: usize, until: Instant) -> Result<Bytes, Reply> {
    let too_large = || Reply::text(413, "the request is too large");
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > most as u64) {
        return Err(too_large());
    }
    match timeout_at(until, Limited::new(request.into_body(), most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Reply::text(400, "the request breaks off")),
        Err(_) => Err(Reply::text(408, "the request takes too long")),
    }
}
