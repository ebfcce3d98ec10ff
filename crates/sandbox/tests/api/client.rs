//! Starts the real binary, and speaks HTTP/1.1 to it over plain sockets, so that a test sees how a connection ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything here takes on the slowest machine: only a broken sandbox runs into it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const EVENTS: &str = "/api/events";
pub const IMPORT: &str = "/api/profile-import";
pub const EVENT_BULK: &str = "/api/event-bulk-create-jobs";
pub const JOBS: &str = "/api/profile-bulk-import-jobs";
pub const SUBSCRIBE: &str = "/api/profile-subscription-bulk-create-jobs";
pub const UNSUBSCRIBE: &str = "/api/profile-subscription-bulk-delete-jobs";
pub const SUPPRESS: &str = "/api/profile-suppression-bulk-create-jobs";
pub const UNSUPPRESS: &str = "/api/profile-suppression-bulk-delete-jobs";
pub const LISTS: &str = "/api/lists";
pub const PROFILES: &str = "/api/profiles";
pub const SEGMENTS: &str = "/api/segments";
pub const FLOWS: &str = "/api/flows";
pub const METRICS: &str = "/api/metrics";
pub const METRIC_AGGREGATES: &str = "/api/metric-aggregates";
pub const ITEMS: &str = "/api/catalog-items";
pub const VARIANTS: &str = "/api/catalog-variants";
pub const CATEGORIES: &str = "/api/catalog-categories";
pub const COUPONS: &str = "/api/coupons";
pub const CODES: &str = "/api/coupon-codes";
pub const CODE_JOBS: &str = "/api/coupon-code-bulk-create-jobs";
pub const CAMPAIGNS: &str = "/api/campaigns";
pub const SEND_JOBS: &str = "/api/campaign-send-jobs";
pub const ESTIMATION_JOBS: &str = "/api/campaign-recipient-estimation-jobs";
pub const ESTIMATIONS: &str = "/api/campaign-recipient-estimations";
pub const ASSIGN: &str = "/api/campaign-message-assign-template";
pub const TEMPLATES: &str = "/api/templates";
pub const WEBHOOKS: &str = "/api/webhooks";
pub const TOPICS: &str = "/api/webhook-topics";

/// A running sandbox, which ends with the test.
pub struct Sandbox {
    child: Child,
    pub ready: Value,
    pub directory: tempfile::TempDir,
}

/// A full answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn number(&self, name: &str) -> u64 {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}")).parse().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The only error object, with all that Klaviyo's OpenAPI document requires of one.
    pub fn error(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/vnd.api+json"));
        let errors = self.json()["errors"].as_array().unwrap().clone();
        for (error, key) in
            errors.iter().flat_map(|error| ["id", "code", "title", "detail"].map(|key| (error, key)))
        {
            assert!(error[key].is_string(), "{key} in {error}");
        }
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].clone()
    }
}

impl Sandbox {
    pub fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ready_file = directory.path().join("ready.json");
        let child = Command::new(env!("CARGO_BIN_EXE_klaviyo-sandbox"))
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready_file)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut sandbox = Self { child, ready: Value::Null, directory };
        let text = until(|| std::fs::read_to_string(&ready_file).ok());
        sandbox.ready = serde_json::from_str(&text).unwrap();
        sandbox
    }

    /// The address in the ready file's `api` or `control`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let url = self.ready[listener].as_str().unwrap();
        url.rsplit('/').next().unwrap().replace("localhost", "127.0.0.1").parse().unwrap()
    }

    pub fn api(&self) -> Connection {
        Connection::open(self.address("api")).unwrap()
    }

    /// A control request that must succeed.
    pub fn control(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.try_control(method, path, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn try_control(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut connection = Connection::open(self.address("control")).unwrap();
        connection.send(method, &format!("/_sandbox/{path}"), &[], body.as_bytes()).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        self.control("GET", path, Value::Null)
    }

    pub fn faults(&self, rules: Value) {
        self.control("PUT", "faults", json!({ "faults": rules }));
    }

    /// How many events and profiles are stored.
    pub fn counts(&self) -> (u64, u64) {
        let stats = self.get("stats");
        (stats["events"].as_u64().unwrap(), stats["profiles"].as_u64().unwrap())
    }

    /// The last receipt.
    pub fn receipt(&self) -> Value {
        self.get("receipts")["receipts"].as_array().unwrap().last().unwrap().clone()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A kept-alive connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// How long to wait for an answer, for tests that expect none.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.stream.get_ref().set_read_timeout(Some(timeout)).unwrap();
        self
    }

    /// An API request with all the headers that Klaviyo asks for.
    pub fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        self.request("POST", path, body)
    }

    /// The same by another method; null is no body.
    pub fn request(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &api_headers(), body.as_bytes())
    }

    /// The same without a body, for a path or a whole link.
    pub fn get(&mut self, link: &str) -> io::Result<Answer> {
        let path = link.find("/api/").map_or(link, |at| &link[at..]);
        self.send("GET", path, &api_headers(), b"")
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.write(method, path, headers, body)?;
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        answer.body = vec![0; answer.header("content-length").map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn write(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)
    }

    /// The status and the headers of the next answer.
    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, headers))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Sends a request, and returns every byte that comes until the connection ends in good order.
    pub fn post_raw(mut self, path: &str, body: &Value) -> io::Result<String> {
        self.write("POST", path, &api_headers(), body.to_string().as_bytes())?;
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for the other side to end the connection.
    pub fn wait_for_end(&mut self) -> io::Result<()> {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }
}

pub fn api_headers() -> [(&'static str, &'static str); 4] {
    [
        ("Authorization", "Klaviyo-API-Key pk_test_1234"),
        ("revision", "2026-07-15"),
        ("Content-Type", "application/vnd.api+json"),
        ("Accept", "application/vnd.api+json"),
    ]
}

/// The event that somebody placed an order.
pub fn event(unique_id: &str) -> Value {
    json!({"data": {"type": "event", "attributes": {
        "properties": {"OrderId": unique_id},
        "time": "2026-07-01T10:00:00Z",
        "value": 9.99,
        "value_currency": "USD",
        "unique_id": unique_id,
        "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": "sarah@example.com"}}},
    }}})
}

pub fn profile(attributes: Value) -> Value {
    json!({"data": {"type": "profile", "attributes": attributes}})
}

/// A bulk call: of each profile's e-mail address, the unique ids of its orders.
pub fn event_bulk(groups: &[(&str, &[&str])]) -> Value {
    let order = |unique_id: &&str| {
        json!({"type": "event", "attributes": {
            "properties": {"OrderId": unique_id}, "unique_id": unique_id, "time": "2026-07-01T10:00:00Z",
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
        }})
    };
    let group = |(email, ids): &(&str, &[&str])| {
        json!({"type": "event-bulk-create", "attributes": {
            "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
            "events": {"data": ids.iter().map(order).collect::<Vec<_>>()},
        }})
    };
    json!({"data": {"type": "event-bulk-create-job", "attributes": {
        "events-bulk-create": {"data": groups.iter().map(group).collect::<Vec<_>>()},
    }}})
}

/// An import job of profiles with these attributes.
pub fn import_job(profiles: impl IntoIterator<Item = Value>) -> Value {
    let profiles: Vec<Value> =
        profiles.into_iter().map(|attributes| json!({"type": "profile", "attributes": attributes})).collect();
    json!({"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": profiles}}}})
}

/// A call about consent, of profiles with these attributes, for the list if there is one.
pub fn consents(path: &str, profiles: &[Value], list: Option<&str>) -> Value {
    // The path names the resource in the plural.
    let resource = path.trim_start_matches("/api/").trim_end_matches('s');
    let profiles: Vec<Value> =
        profiles.iter().map(|attributes| json!({"type": "profile", "attributes": attributes})).collect();
    let mut body = json!({"data": {"type": resource, "attributes": {"profiles": {"data": profiles}}}});
    if let Some(id) = list {
        body["data"]["relationships"] = json!({"list": {"data": {"type": "list", "id": id}}});
    }
    body
}

/// A job of many entries, made at this path.
pub fn batch(path: &str, entries: impl IntoIterator<Item = Value>) -> Value {
    // The path names the resource in the plural, and that the entries.
    let resource = path.trim_start_matches("/api/").trim_end_matches('s');
    let name = match resource {
        "coupon-code-bulk-create-job" => "coupon-codes",
        _ if resource.contains("item") => "items",
        _ if resource.contains("variant") => "variants",
        _ => "categories",
    };
    let entries: Vec<Value> = entries.into_iter().collect();
    json!({"data": {"type": resource, "attributes": {name: {"data": entries}}}})
}

/// The attributes of a job of many entries, after it was made at this path.
pub fn done_batch(api: &mut Connection, path: &str, entries: impl IntoIterator<Item = Value>) -> Value {
    let answer = api.post(path, &batch(path, entries)).unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = format!("{path}/{}", answer.json()["data"]["id"].as_str().unwrap());
    let attributes = until(|| {
        let attributes = api.get(&job).unwrap().json()["data"]["attributes"].clone();
        Some(attributes).filter(|attributes| attributes["status"] == "complete")
    });
    let errors = attributes["errors"].as_array().unwrap().len();
    assert_eq!(attributes["failed_count"], errors);
    attributes
}

/// Of each error of a job its code and the end of its pointer.
pub fn batch_errors(attributes: &Value) -> Vec<Value> {
    let error = |error: &Value| {
        let pointer = error["source"]["pointer"].as_str().unwrap();
        let (_, part) = pointer.strip_prefix("/data/attributes/").unwrap().split_once("/data/").unwrap();
        json!([error["code"], part])
    };
    attributes["errors"].as_array().unwrap().iter().map(error).collect()
}

/// Asks until there is an answer.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
