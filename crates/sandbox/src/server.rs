//! The two listeners, and how the API's goes down and comes up again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::control::Via;
use crate::sandbox::Sandbox;
use crate::{api, connection, control};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// Pause after a failed accept (out of file descriptors, most likely), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the control paths ask of the API listener. Each is answered when it is done.
pub enum Command {
    /// Refuse connections from now on, and end those that are open.
    Down { back_after: Option<Duration>, done: oneshot::Sender<()> },
    /// Listen again, on the same port.
    Up { done: oneshot::Sender<io::Result<()>> },
}

struct ApiServer {
    sandbox: Arc<Sandbox>,
    routes: Router,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    commands: mpsc::Receiver<Command>,
    connections: JoinSet<()>,
}

/// Runs the API listener, up and down, until the sandbox ends.
pub async fn serve_api(
    sandbox: Arc<Sandbox>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    commands: mpsc::Receiver<Command>,
) {
    let connections = JoinSet::new();
    let routes = api::routes(&sandbox).merge(control::routes(&sandbox, Via::Api));
    let mut server = ApiServer { sandbox, routes, address, tls, commands, connections };
    let mut listener = listener;
    loop {
        let Some((back_after, done)) = server.while_up(&listener).await else { return };
        drop(listener);
        server.sandbox.set_up(false);
        server.connections.shutdown().await;
        let reserved = reserve(address);
        // Whoever asked may have gone away, here and below; the door moves all the same.
        let _ = done.send(());
        let Some(opened) = server.while_down(reserved, back_after).await else { return };
        listener = opened;
        server.sandbox.set_up(true);
    }
}

type DownRequest = (Option<Duration>, oneshot::Sender<()>);

impl ApiServer {
    /// Accepts connections until it is told to go down. `None` when nobody can tell it any more.
    async fn while_up(&mut self, listener: &TcpListener) -> Option<DownRequest> {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.welcome(stream),
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                command = self.commands.recv() => match command? {
                    Command::Down { back_after, done } => return Some((back_after, done)),
                    Command::Up { done } => { let _ = done.send(Ok(())); }
                },
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    fn welcome(&mut self, stream: TcpStream) {
        // Delayed small writes would show up as latency that Klaviyo does not have.
        let _ = stream.set_nodelay(true);
        let number = self.sandbox.count_connection();
        self.connections.spawn(connection::serve_api(self.routes.clone(), stream, number, self.tls.clone()));
    }

    /// Waits for the command to come up, or for the time to. An answer of failure leaves the listener down.
    async fn while_down(
        &mut self,
        reserved: io::Result<TcpSocket>,
        back_after: Option<Duration>,
    ) -> Option<TcpListener> {
        let mut reserved = reserved;
        let mut back_at = back_after.map(|delay| Instant::now() + delay);
        loop {
            let done = tokio::select! {
                command = self.commands.recv() => match command? {
                    Command::Up { done } => Some(done),
                    Command::Down { back_after, done } => {
                        back_at = back_after.map(|delay| Instant::now() + delay);
                        let _ = done.send(());
                        continue;
                    }
                },
                () = sleep_until(back_at.unwrap_or_else(Instant::now)), if back_at.is_some() => None,
            };
            match reserved.and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => {
                    if let Some(done) = done {
                        let _ = done.send(Ok(()));
                    }
                    return Some(listener);
                }
                Err(error) => {
                    eprintln!("klaviyo-sandbox: cannot listen on {} again: {error}", self.address);
                    back_at = back_at.map(|_| Instant::now() + ACCEPT_PAUSE);
                    if let Some(done) = done {
                        let _ = done.send(Err(error));
                    }
                    reserved = reserve(self.address);
                }
            }
        }
    }
}

/// Holds the port without listening. Connections are refused, yet no other process is given the port, and no
/// client's connection attempt picks it as its own source port and so meets itself.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The connections just closed are in TIME_WAIT on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Runs the control listener until the sandbox ends.
pub async fn serve_control(sandbox: Arc<Sandbox>, listener: TcpListener) {
    let routes = control::routes(&sandbox, Via::Control).fallback(control::unknown);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection::serve_control(routes.clone(), stream));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}
