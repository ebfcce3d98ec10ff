//! The gateway: what comes in by HTTP is taken, once it is committed, whoever else connects.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use harness::{
    Fault, PATIENCE, Process, Shop, Signal, WebhookRequest, count, kill, place_orders, query, queued, sql,
    wait_for_crash,
};
use postgres::Client;
use serde_json::{Value, json};

const SECRET: &str = "a secret that nobody knows of";
const TOPIC: &str = "event:klaviyo.opened_email";

/// A shop with a gateway and a webhook, that the sandbox knows as well.
struct Served {
    shop: Shop,
    db: Client,
    port: u16,
}

impl Served {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut builder = Shop::builder()
            .quick_retries()
            .setting("klaviyo.gateway_database", "shop")
            .setting("klaviyo.gateway_listen", port);
        for (name, value) in settings {
            builder = builder.setting(name, value);
        }
        let shop = builder.start();
        let mut db = shop.connect();
        let webhook = json!({"data": {"type": "webhook",
            "attributes": {"name": "Shop", "endpoint_url": "https://shop.example/in", "secret_key": SECRET},
            "relationships": {"webhook-topics": {"data": [{"type": "webhook-topic", "id": TOPIC}]}},
        }});
        let made = queued(&mut db, &format!("klaviyo_call('POST', '/api/webhooks', $${webhook}$$)"));
        let id: String =
            query(&mut db, "SELECT klaviyo_id FROM klaviyo_await($1::text::uuid, '1 minute')", &[&made]);
        db.execute("SELECT klaviyo_set_webhook($1, $2)", &[&id, &SECRET]).expect("a webhook");
        let served = Self { shop, db, port };
        served.shop.eventually("it listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        served
    }

    /// A request of Klaviyo's about so many events.
    fn signed(&self, events: usize) -> WebhookRequest {
        let events: Vec<Value> =
            (0..events).map(|n| json!({"topic": TOPIC, "profile_id": format!("P{n}")})).collect();
        self.shop.sandbox.webhook_requests(&json!(events)).remove(0)
    }

    fn post(&self, account: &str, request: &WebhookRequest) -> Option<u16> {
        post(self.port, account, request)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n").expect("it is sent");
        let answer = read(&mut stream);
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status(&answer).unwrap_or_default(), body)
    }

    fn events(&mut self) -> i64 {
        count(&mut self.db, "SELECT count(*) FROM klaviyo.webhook_event")
    }

    /// The number of its process.
    fn gateway(&self) -> Option<i32> {
        let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'klaviyo_sync gateway'";
        self.shop.connect().query_opt(pid, &[]).expect("activity").map(|row| row.get(0))
    }
}

/// One that nobody listens on just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The status, if there is an answer.
fn post(port: u16, account: &str, request: &WebhookRequest) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let headers = request.headers.as_object().expect("headers");
    let headers: String = headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
        .map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap_or_default()))
        .collect();
    let (body, length) = (&request.body, request.body.len());
    write!(
        stream,
        "POST /webhooks/klaviyo/{account} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    status(&read(&mut stream))
}

fn read(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}

#[test]
fn what_klaviyo_sends_is_taken_and_nothing_else() {
    let mut served = Served::with(&[("klaviyo.webhook_max_size", "2kB")]);
    let request = served.signed(3);
    assert_eq!(served.post("default", &request), Some(200));
    assert_eq!(served.events(), 3);
    assert_eq!(served.post("default", &request), Some(200), "it comes again");
    assert_eq!(served.post("other", &request), Some(401));
    let mut forged = served.signed(1);
    forged.body.push(' ');
    assert_eq!(served.post("default", &forged), Some(401));
    let mut late = served.signed(1);
    let headers = late.headers.as_object_mut().expect("headers");
    headers.remove("Klaviyo-Signature");
    assert_eq!(served.post("default", &late), Some(401));
    assert_eq!(served.post("default", &served.signed(40)), Some(413));
    assert_eq!(served.events(), 3);
    // A flow's webhook, by its secret.
    served.db.execute("SELECT klaviyo_set_webhook('flow:welcome', $1)", &[&SECRET]).expect("a webhook");
    let flow = |secret: &str| WebhookRequest {
        headers: json!({"Klaviyo-Flow": "welcome", "Klaviyo-Flow-Secret": secret}),
        body: r#"{"person": "ada"}"#.to_owned(),
    };
    assert_eq!(served.post("default", &flow("another secret of sorts")), Some(401));
    assert_eq!(served.post("default", &flow(SECRET)), Some(200));
    assert_eq!(
        count(&mut served.db, "SELECT count(*) FROM klaviyo.webhook_event WHERE topic = 'flow:welcome'"),
        1
    );
}

/// Success is said of what is committed only, and of what is not that Klaviyo is to come again.
#[test]
fn it_says_yes_once_it_is_committed() {
    let mut served = Served::start();
    let request = served.signed(2);
    let mut other = served.shop.connect();
    sql(&mut other, "BEGIN; SELECT FROM klaviyo.webhook FOR UPDATE");
    assert_eq!(served.post("default", &request), Some(503));
    sql(&mut other, "ROLLBACK");
    assert_eq!(served.events(), 0);
    assert_eq!(served.post("default", &request), Some(200));
    assert_eq!(served.events(), 2);
    // Whoever is killed while many come: what was answered with yes is there.
    let port = served.port;
    for victim in ["klaviyo_sync gateway", "klaviyo_sync worker"] {
        let before = served.events();
        let requests: Vec<WebhookRequest> = (0..60).map(|_| served.signed(2)).collect();
        let senders = requests.chunks(20).map(<[WebhookRequest]>::to_vec);
        let senders: Vec<_> = senders
            .map(|requests| {
                thread::spawn(move || {
                    let send = |request: &WebhookRequest| {
                        let end = Instant::now() + PATIENCE;
                        // As Klaviyo does: until it hears yes.
                        while post(port, "default", request) != Some(200) {
                            assert!(Instant::now() < end, "it is not taken");
                            thread::sleep(Duration::from_millis(20));
                        }
                    };
                    requests.iter().for_each(send);
                })
            })
            .collect();
        served.shop.eventually("some have come", PATIENCE, || {
            count(&mut other, "SELECT count(*) FROM klaviyo.webhook_event") > before + 10
        });
        let pid: i32 =
            query(&mut served.db, "SELECT pid FROM pg_stat_activity WHERE backend_type = $1", &[&victim]);
        kill(pid, Signal::SIGKILL);
        wait_for_crash(&mut served.db);
        senders.into_iter().for_each(|sender| sender.join().expect("all are taken"));
        served.shop.cluster.wait_ready();
        (served.db, other) = (served.shop.connect(), served.shop.connect());
        assert_eq!(served.events(), before + 120, "each once");
    }
}

#[test]
fn a_monitor_is_told() {
    let mut served = Served::start();
    place_orders(&mut served.db, 1, 5);
    served.shop.drain_soon();
    served.shop.eventually("all is well", PATIENCE, || {
        let (status, body) = served.get("/health");
        let health: Value = serde_json::from_str(&body).expect("JSON");
        status == 200
            && health["status"] == "ok"
            && health["checks"].as_array().is_some_and(|it| it.len() > 5)
    });
    let (status, metrics) = served.get("/metrics");
    assert_eq!(status, 200);
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a metric and its value");
        assert!(name.starts_with("klaviyo_") && value.parse::<f64>().is_ok(), "{line}");
    }
    for expected in [
        "# TYPE klaviyo_messages_accepted_total counter",
        "klaviyo_messages_accepted_total{account=\"default\",lane=\"events\"} 5",
        "klaviyo_outbox_messages 0",
        "klaviyo_worker_up 1",
        "klaviyo_account_stopped{account=\"default\"} 0",
        "# HELP klaviyo_call_duration_seconds ",
    ] {
        assert!(metrics.contains(expected), "{expected} in\n{metrics}");
    }
    // Klaviyo refuses the key: that is critical.
    served.shop.sandbox.set_faults(&[Fault::status(401)]);
    place_orders(&mut served.db, 6, 6);
    served.shop.eventually("that is told", PATIENCE, || {
        let (status, body) = served.get("/health");
        status == 503 && body.contains("\"critical\"")
    });
    assert!(served.get("/metrics").1.contains("klaviyo_account_stopped{account=\"default\"} 1"));
}

/// Two hundred who are slow, stall or send rubbish: orders go out as ever, what Klaviyo sends is taken, and who is cut off is.
#[test]
fn two_hundred_hostile_connections_are_in_nobodys_way() {
    let mut served =
        Served::with(&[("klaviyo.gateway_timeout", "2s"), ("klaviyo.gateway_max_connections", "50")]);
    let mut hostile: Vec<TcpStream> = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port)).expect("a connection");
        let part: Vec<u8> = match number % 5 {
            0 => Vec::new(),
            1 => b"POST /webhooks/klaviyo/default HTTP/1.1\r\nHo".to_vec(),
            2 => b"POST /webhooks/klaviyo/default HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\n\r\n{"
                .to_vec(),
            3 => b"\x16\x03\x01\x00\xf4\x01\x00\x00".to_vec(),
            _ => [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 30_000]].concat(),
        };
        let _ = stream.write_all(&part);
        hostile.push(stream);
    }
    // Meanwhile the database does what it is for.
    place_orders(&mut served.db, 1, 50);
    assert_eq!(served.shop.drain(PATIENCE).waiting(), 0);
    let request = served.signed(2);
    served
        .shop
        .eventually("Klaviyo gets through", PATIENCE, || served.post("default", &request) == Some(200));
    assert_eq!(served.events(), 2);
    for stream in &mut hostile {
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let mut rest = Vec::new();
        // To the end of the connection, which is the gateway's doing.
        let ended = stream.read_to_end(&mut rest);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
    }
    let pid = served.gateway().expect("it runs");
    assert_eq!(served.get("/health").0, 200);
    assert_eq!(served.gateway(), Some(pid), "the same as before");
}

#[test]
fn it_listens_where_it_is_to_and_ends_with_its_database() {
    let mut served = Served::start();
    let role = "SELECT string_agg(DISTINCT a.privilege_type || ' ' || p.proname, ', ' ORDER BY a.privilege_type || ' ' || p.proname)
                FROM pg_proc AS p CROSS JOIN aclexplode(p.proacl) AS a WHERE a.grantee = 'klaviyo_gateway'::regrole";
    assert_eq!(
        query::<String>(&mut served.db, role, &[]),
        "EXECUTE gateway_health, EXECUTE gateway_metrics, EXECUTE gateway_webhook"
    );
    // It has these rights, and no others.
    sql(&mut served.db, "REVOKE EXECUTE ON FUNCTION klaviyo.gateway_metrics FROM klaviyo_gateway");
    assert_eq!((served.get("/metrics").0, served.get("/health").0), (503, 200));
    sql(&mut served.db, "GRANT EXECUTE ON FUNCTION klaviyo.gateway_metrics TO klaviyo_gateway");
    assert_eq!(served.get("/metrics").0, 200);
    // Elsewhere, where somebody is, and then is not.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    served.shop.cluster.set("klaviyo.gateway_listen", format!("127.0.0.1:{port}"));
    served.shop.eventually("that is told", PATIENCE, || {
        served.shop.cluster.log().contains("the gateway cannot listen")
    });
    assert!(TcpStream::connect(("127.0.0.1", served.port)).is_err());
    drop(taken);
    served.port = port;
    served.shop.eventually("it listens there", PATIENCE, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok() && served.get("/health").0 == 200
    });
    // Terminated it comes back.
    let pid = served.gateway().expect("it runs");
    Process::find(pid).expect("it runs").signal(Signal::SIGTERM);
    served
        .shop
        .eventually("another one runs", PATIENCE, || served.gateway().is_some_and(|other| other != pid));
    // Not wanted it goes.
    served.shop.cluster.set("klaviyo.gateway_listen", "");
    served.shop.eventually("it ends", PATIENCE, || served.gateway().is_none());
    served.shop.cluster.set("klaviyo.gateway_listen", port);
    served.shop.eventually("it is back", PATIENCE, || served.gateway().is_some());
    // A database that is dropped is not held up.
    let mut postgres = served.shop.cluster.connect("postgres");
    drop(served.db);
    sql(&mut postgres, "DROP DATABASE shop");
}
