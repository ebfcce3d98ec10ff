//! One HTTP client for all accounts: connection reuse, timeouts, a cap on what is read back.

use std::sync::Once;
use std::time::Duration;

use reqwest::ClientBuilder;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;

use crate::{Method, Request, Session};

const JSON_API: HeaderValue = HeaderValue::from_static("application/vnd.api+json");
const REVISION: HeaderName = HeaderName::from_static("revision");

/// How often a quiet HTTP/2 connection is asked whether it still lives, and how long it may take to say so. A
/// connection that a firewall dropped silently is found within their sum, not one request timeout after another.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers are cut off there, in bytes: the longest we read is a page of what a job could not import.
pub const MAX_ANSWER: usize = 4 << 20;

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientOptions {
    /// Until the connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Between two reads of an answer.
    pub read_timeout: Duration,
    /// From the start to the last byte of the answer.
    pub request_timeout: Duration,
}

/// Sends requests. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// For this machine itself: past the proxy that the environment may name, to which it is another machine, and
    /// which would read the key.
    direct: reqwest::Client,
}

/// What came back, whatever the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub rate: Option<RateHeaders>,
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// `RateLimit-Remaining` and `RateLimit-Reset`: what is left of the steady window and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateHeaders {
    pub remaining: u32,
    pub reset: Duration,
}

/// No (whole) answer. The text names neither key nor body.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The request never left: it cannot have had an effect.
    #[error("could not connect: {0}")]
    Connect(String),
    /// It may have had its effect.
    #[error("no answer in time")]
    Timeout,
    /// It may have had its effect.
    #[error("connection lost: {0}")]
    Lost(String),
}

impl Client {
    /// A client with a pool of its own.
    ///
    /// # Errors
    /// When the system's certificates cannot be loaded.
    pub fn new(options: ClientOptions) -> Result<Self, String> {
        Self::built(options, reqwest::Client::builder)
    }

    fn built(options: ClientOptions, builder: fn() -> ClientBuilder) -> Result<Self, String> {
        static PROVIDER: Once = Once::new();
        // An error means that a provider is installed already, which is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let build = |builder: ClientBuilder| {
            builder
                .user_agent(concat!("klaviyo_sync/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(options.connect_timeout)
                .read_timeout(options.read_timeout)
                .timeout(options.request_timeout)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .http2_keep_alive_timeout(KEEP_ALIVE)
                .tcp_nodelay(true)
                .redirect(Policy::none())
                .build()
                .map_err(|error| chain(&error))
        };
        Ok(Self { http: build(builder())?, direct: build(builder().no_proxy())? })
    }

    /// Sends one call and reads its answer to the end. Of one that says that the call succeeded the body may be missing:
    /// Klaviyo has done what it was asked.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(&self, session: &Session, request: Request) -> Result<Answer, TransportError> {
        let http = if session.is_loopback() { &self.direct } else { &self.http };
        let url = request.url(session);
        let call = match request.endpoint.method {
            Method::Get => http.get(url),
            Method::Post => http.post(url).header(CONTENT_TYPE, JSON_API).body(request.body),
            Method::Patch => http.patch(url).header(CONTENT_TYPE, JSON_API).body(request.body),
            Method::Delete => http.delete(url).header(CONTENT_TYPE, JSON_API).body(request.body),
        };
        let mut response = call
            .header(AUTHORIZATION, session.authorization())
            .header(REVISION, session.revision())
            .header(ACCEPT, JSON_API)
            .send()
            .await
            .map_err(transport)?;
        let mut answer = Answer {
            status: response.status().as_u16(),
            rate: rate_headers(response.headers()),
            retry_after: seconds(response.headers(), "retry-after"),
            body: Vec::new(),
        };
        while answer.body.len() < MAX_ANSWER {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Err(error) if !response.status().is_success() => return Err(transport(error)),
                Ok(None) | Err(_) => break,
            }
        }
        answer.body.truncate(MAX_ANSWER);
        session.hide_key(&mut answer.body);
        Ok(answer)
    }
}

fn transport(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    if error.is_connect() {
        TransportError::Connect(chain(&error))
    } else if error.is_timeout() {
        TransportError::Timeout
    } else {
        TransportError::Lost(chain(&error))
    }
}

/// An error with its causes: reqwest's own text says only "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn rate_headers(headers: &HeaderMap) -> Option<RateHeaders> {
    Some(RateHeaders {
        remaining: headers.get("ratelimit-remaining")?.to_str().ok()?.trim().parse().ok()?,
        reset: seconds(headers, "ratelimit-reset")?,
    })
}

/// A header that counts seconds. A day is the longest that is believed: it stands in no window that is longer.
fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let value: f64 = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(value.clamp(0.0, 86_400.0)).ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::CREATE_EVENT;

    const PATIENCE: Duration = Duration::from_secs(20);
    const OPTIONS: ClientOptions =
        ClientOptions { connect_timeout: PATIENCE, read_timeout: PATIENCE, request_timeout: PATIENCE };

    /// Answers one request so, and then no more.
    fn server(head: &str, body: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let head = format!("HTTP/1.1 {head}\r\n\r\n");
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut part = [0; 1_024];
                let read = socket.read(&mut part).expect("a request");
                request.extend_from_slice(&part[..read]);
            }
            // In vain where the client has read enough.
            let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(&body));
        });
        format!("http://{address}")
    }

    fn post(client: &Client, base_url: &str) -> Result<Answer, TransportError> {
        let session = Session::new(base_url, crate::REVISION, "pk_test").expect("a session");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client.send(&session, Request::post(&CREATE_EVENT, b"{}".to_vec())))
    }

    #[test]
    fn what_klaviyo_accepted_is_accepted_whatever_it_says_besides() {
        let client = Client::new(OPTIONS).expect("a client");
        let endless = vec![b' '; 2 * MAX_ANSWER];
        let answer = post(&client, &server("202 Accepted", endless.clone())).expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (202, MAX_ANSWER));
        let answer = post(&client, &server("202 Accepted\r\nContent-Length: 9", b"half".to_vec()));
        assert_eq!(answer.expect("an answer").status, 202);
        let answer = post(&client, &server("400 Bad Request", endless)).expect("an answer");
        assert_eq!((answer.status, answer.body.len()), (400, MAX_ANSWER));
        let answer = post(&client, &server("400 Bad Request\r\nContent-Length: 9", b"half".to_vec()));
        assert!(matches!(answer, Err(TransportError::Lost(_))), "{answer:?}");
    }

    #[test]
    fn calls_to_this_machine_go_past_a_proxy() {
        let client = Client::built(OPTIONS, || {
            let proxy = reqwest::Proxy::all(server("502 Bad Gateway", Vec::new())).expect("a proxy");
            reqwest::Client::builder().proxy(proxy)
        });
        let answer = post(&client.expect("a client"), &server("202 Accepted", Vec::new()));
        assert_eq!(answer.expect("an answer").status, 202);
    }

    #[test]
    fn headers_that_count_are_read_and_others_ignored() {
        let mut headers = HeaderMap::new();
        assert_eq!(rate_headers(&headers), None);
        headers.insert("RateLimit-Remaining", HeaderValue::from_static("17"));
        headers.insert("RateLimit-Reset", HeaderValue::from_static("42"));
        assert_eq!(
            rate_headers(&headers),
            Some(RateHeaders { remaining: 17, reset: Duration::from_secs(42) })
        );
        for (text, expected) in [
            ("1", Some(Duration::from_secs(1))),
            ("1e9", Some(Duration::from_secs(86_400))),
            ("-3", Some(Duration::ZERO)),
            ("NaN", None),
            ("Tue, 14 Apr 2026 03:50:12 GMT", None),
        ] {
            headers.insert("retry-after", HeaderValue::from_static(text));
            assert_eq!(seconds(&headers, "retry-after"), expected, "{text}");
        }
    }
}
