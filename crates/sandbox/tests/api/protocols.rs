//! The other ways to reach the API: HTTP/2 without TLS, and both versions with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{PATIENCE, Sandbox, api_headers, event, until};

type Client = SendRequest<Full<Bytes>>;

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    // The tests look at requests; how the connection ends shows there.
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// The status of the answer and its body's length, or where it failed.
async fn post(client: &mut Client, unique_id: &str) -> Result<(StatusCode, usize), &'static str> {
    let mut request = Request::post("http://localhost/api/events");
    for (name, value) in api_headers() {
        request = request.header(name, value);
    }
    let request = request.body(Full::from(event(unique_id).to_string())).unwrap();
    let exchange = async {
        client.ready().await.map_err(|_| "connection")?;
        let response = client.send_request(request).await.map_err(|_| "head")?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|_| "body")?;
        Ok((status, body.to_bytes().len()))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

#[tokio::test]
async fn http2_without_tls() {
    let sandbox = Sandbox::start(&[]);
    let mut client = client(TcpStream::connect(sandbox.address("api")).await.unwrap()).await;
    assert_eq!(post(&mut client, "u1").await, Ok((StatusCode::ACCEPTED, 0)));
    assert_eq!(sandbox.receipt()["version"], "HTTP/2.0");
    for (kind, failure) in [("half", "body"), ("hang", "head")] {
        sandbox.faults(json!([{"kind": kind, "ms": 1}]));
        assert_eq!(post(&mut client, kind).await, Err(failure), "{kind}");
    }
    sandbox.control("DELETE", "faults", serde_json::Value::Null);
    assert_eq!(post(&mut client, "u2").await, Ok((StatusCode::ACCEPTED, 0)), "only streams were reset");
    assert_eq!(sandbox.receipt()["connection"], 1);
}

#[tokio::test]
async fn a_reset_ends_the_whole_http2_connection() {
    let sandbox = Sandbox::start(&[]);
    sandbox.faults(json!([{"kind": "hang", "match": "u-waits"}, {"kind": "reset_after"}]));
    let mut client = client(TcpStream::connect(sandbox.address("api")).await.unwrap()).await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { post(&mut other, "u-waits").await });
    tokio::task::yield_now().await;
    tokio::time::timeout(PATIENCE, async {
        while sandbox.get("stats")["requests"] != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(post(&mut client, "u1").await.is_err());
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(until(|| sandbox.get("events")["events"].get(0).cloned())["unique_id"], "u1");
}

#[tokio::test]
async fn tls_offers_both_versions_with_a_certificate_to_trust() {
    let sandbox = Sandbox::start(&["--tls-dir", "tls"]);
    let url = sandbox.ready["api"].as_str().unwrap();
    assert!(url.starts_with("https://localhost:"), "{url}");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(sandbox.directory.path().join("tls/ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (name, protocol) in [("localhost", "h2"), ("127.0.0.1", "http/1.1")] {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(sandbox.address("api")).await.unwrap();
        let name = ServerName::try_from(name).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "h2" {
            assert_eq!(post(&mut client(stream).await, "u1").await, Ok((StatusCode::ACCEPTED, 0)));
        }
    }
}
