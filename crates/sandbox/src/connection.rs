//! One client connection: HTTP over a socket that a handler can cut.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::reply::BrokenOff;

/// What a handler knows of the connection that its request came on.
pub struct Connection {
    /// Counts accepted API connections from 1.
    pub number: u64,
    cut: Arc<Cut>,
}

impl Connection {
    /// Ends the connection with a TCP reset. Of HTTP/2 this ends every stream of the connection.
    pub fn reset(&self) {
        self.cut.reset.store(true, Ordering::Relaxed);
        self.cut.wake.notify_one();
    }
}

#[derive(Default)]
struct Cut {
    reset: AtomicBool,
    wake: Notify,
}

/// The socket. Dropping it after [`Connection::reset`] sends RST instead of FIN.
struct Wire {
    stream: TcpStream,
    cut: Arc<Cut>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.cut.reset.load(Ordering::Relaxed) {
            // Without it the client sees an orderly end; there is nobody to tell.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Serves a connection to the API listener until it ends or a handler cuts it. Dropping the future closes it.
pub async fn serve_api(routes: Router, stream: TcpStream, number: u64, tls: Option<TlsAcceptor>) {
    let cut = Arc::new(Cut::default());
    let wire = Wire { stream, cut: Arc::clone(&cut) };
    let connection = Arc::new(Connection { number, cut: Arc::clone(&cut) });
    tokio::select! {
        () = async {
            match tls {
                None => speak(routes, wire, connection).await,
                // A client that does not finish the handshake is its own business.
                Some(tls) => if let Ok(wire) = tls.accept(wire).await {
                    speak(routes, wire, connection).await;
                },
            }
        } => {}
        () = cut.wake.notified() => {}
    }
}

async fn speak<S>(routes: Router, socket: S, connection: Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&connection));
        let answer = routes.call(request);
        async move {
            let Ok(response) = answer.await;
            // A handler of axum always answers. Only an error here ends the connection or stream without a head.
            match response.extensions().get::<BrokenOff>() {
                Some(&broken_off) => Err(broken_off),
                None => Ok(response),
            }
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // An error here is the client's departure or a fault at work: both are ordinary.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

/// Serves a connection to the control listener until it ends.
pub async fn serve_control(routes: Router, stream: TcpStream) {
    let builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    let _ = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)).await;
}
