//! Whoever connects, and whatever is sent: what is in order is served, and all else ends within its bounds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gateway::{Bounds, Gateway, Reply, Wants};

/// As short as a busy machine allows, for what is meant to run out; all else has no bound that it could meet.
const TIME: Duration = Duration::from_secs(2);

const BOUNDS: Bounds = Bounds { connections: 20, body: 10_000, time: TIME };

/// A gateway whose owner says of each request what it was.
struct Owned {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    owner: Option<JoinHandle<()>>,
}

impl Owned {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mut bell, ringer) = UnixStream::pair().expect("a pair");
        ringer.set_nonblocking(true).expect("it can be set");
        bell.set_read_timeout(Some(Duration::from_millis(50))).expect("it can be set");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let owner = thread::spawn(move || {
            let gateway = Gateway::start(listener, BOUNDS, ringer).expect("it serves");
            while !stopped.load(Relaxed) {
                let _ = bell.read(&mut [0]);
                for incoming in gateway.requests() {
                    let words = match incoming.wants {
                        Wants::Health => "fine".to_owned(),
                        Wants::Metrics => "many".to_owned(),
                        Wants::Webhook { account, headers, body } => {
                            let of = headers.iter().find(|(name, _)| name == "klaviyo-webhook-id");
                            let of = of.map(|(_, id)| id.as_str()).unwrap_or_default();
                            format!("{account} {of} {}", body.len())
                        }
                    };
                    let _ = incoming.reply.send(Reply::text(200, &words));
                }
            }
            assert!(!gateway.has_ended());
        });
        Self { address, stop, owner: Some(owner) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it can be set");
        stream
    }

    /// Sends that, and reads to the end of the connection.
    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // In vain where the answer is there before.
        let _ = stream.write_all(request);
        rest(stream)
    }

    fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").as_bytes())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(owner) = self.owner.take() {
            owner.join().expect("it ends");
        }
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset ends it as well.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(body: &[u8], more: &str) -> Vec<u8> {
    let head = format!(
        "POST /webhooks/klaviyo/default HTTP/1.1\r\nHost: g\r\nKlaviyo-Webhook-Id: W\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn what_is_in_order_is_served() {
    let gateway = Owned::start();
    assert!(gateway.get("/health").ends_with("\r\n\r\nfine\n"));
    assert!(gateway.get("/metrics?x=y").starts_with("HTTP/1.1 200 OK\r\n"));
    let answer = gateway.exchange(&post(&[b'x'; 10_000], ""));
    assert!(answer.ends_with("default W 10000\n"), "{answer}");
    // One request after the other by one connection.
    let mut stream = gateway.connect();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: g\r\n\r\nGET /metrics HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").expect("it is sent");
    let answers = rest(stream);
    assert!(answers.contains("fine\n") && answers.ends_with("many\n"), "{answers}");
}

#[test]
fn what_is_not_is_refused() {
    let gateway = Owned::start();
    let status = |answer: String| answer.split(' ').nth(1).map(str::to_owned).unwrap_or_default();
    assert_eq!(status(gateway.get("/")), "404");
    assert_eq!(status(gateway.get("/webhooks/klaviyo/default")), "405");
    assert_eq!(status(gateway.exchange(&post(&vec![b'x'; 10_001], ""))), "413");
    let chunks = b"POST /webhooks/klaviyo/default HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
    assert_eq!(status(gateway.exchange(&[chunks.as_slice(), &chunk, &chunk, &chunk].concat())), "413");
    assert_eq!(status(gateway.exchange(&post(b"x", &format!("X: {}\r\n", "x".repeat(20_000))))), "431");
    let headers: String = (0..100).map(|n| format!("X-{n}: x\r\n")).collect();
    assert_eq!(status(gateway.exchange(&post(b"x", &headers))), "431");
    assert_eq!(status(gateway.exchange(b"no HTTP at all\r\n\r\n")), "400");
    assert!(gateway.get("/health").ends_with("fine\n"));
}

/// Who is slow is cut off after his time, and with him all who fill the house; who is in order is served after that.
#[test]
fn who_is_slow_is_cut_off_and_others_are_served() {
    let gateway = Owned::start();
    let mut slow: Vec<TcpStream> = (0..60).map(|_| gateway.connect()).collect();
    for (number, stream) in slow.iter_mut().enumerate() {
        let part: &[u8] = match number % 4 {
            0 => b"",
            1 => b"POST /webhooks/klaviyo/default HTTP/1.1\r\nHost",
            2 => b"POST /webhooks/klaviyo/default HTTP/1.1\r\nHost: g\r\nContent-Length: 9000\r\n\r\nhalf",
            // In order, and never taken.
            _ => b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n",
        };
        let _ = stream.write_all(part);
    }
    assert!(gateway.get("/health").ends_with("fine\n"), "once they are gone");
    let answers: Vec<String> = slow.into_iter().map(rest).collect();
    for (number, answer) in answers.iter().enumerate() {
        let expected = match number % 4 {
            0 | 1 => answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            2 => answer.starts_with("HTTP/1.1 408"),
            _ => answer.ends_with("many\n"),
        };
        assert!(expected, "{number}: {answer}");
    }
}

#[test]
fn whatever_is_sent_nothing_breaks() {
    let gateway = Owned::start();
    let mut random = fastrand::Rng::with_seed(9);
    let whole = post(br#"{"data":[]}"#, "");
    for _ in 0..500 {
        let mut request = whole.clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..request.len());
            match random.u8(0..3) {
                0 => request[at] = random.u8(..),
                1 => request.truncate(at.max(1)),
                _ => request.insert(at, random.u8(..)),
            }
        }
        let mut stream = gateway.connect();
        let _ = stream.write_all(&request);
        // It hears that there is no more.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        rest(stream);
    }
    assert!(gateway.get("/health").ends_with("fine\n"));
}
