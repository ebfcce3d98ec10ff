//! The listener: so many connections at a time, and no more wait in here.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::connection;
use crate::route::Incoming;

/// Pause after an accept that has failed, most likely for want of file descriptors, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// How much whoever connects may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time. Others wait in the kernel, for as long as it lets them.
    pub connections: usize,
    /// Bytes of a body.
    pub body: usize,
    /// Until a request has come whole, and until an answer has been taken.
    pub time: Duration,
}

/// Who hands requests on: each with a byte to a socket on which the receiver sleeps.
pub(crate) struct Door {
    requests: Sender<Incoming>,
    bell: UnixStream,
}

impl Door {
    /// False where nobody takes requests any more.
    pub(crate) fn hand_in(&self, incoming: Incoming) -> bool {
        let taken = self.requests.send(incoming).is_ok();
        if taken {
            // A full socket has bytes in it.
            let _ = (&self.bell).write(&[0]);
        }
        taken
    }
}

/// The server, from outside. It ends with this value.
pub struct Gateway {
    requests: Receiver<Incoming>,
    /// Dropped to have it end.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts it in a thread of its own, which has the signal mask of the caller. It writes a byte to `bell` whenever there
    /// are requests to fetch; `bell` must not block.
    ///
    /// # Errors
    /// When the thread cannot be started, or the listener not be used.
    pub fn start(listener: TcpListener, bounds: Bounds, bell: UnixStream) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (sender, requests) = channel();
        let (stop, stopped) = oneshot::channel();
        let door = Arc::new(Door { requests: sender, bell });
        let thread = thread::Builder::new().name("klaviyo gateway".to_owned()).spawn(move || {
            runtime.block_on(serve(listener, bounds, &door, stopped));
            // Whoever is connected is cut off: what was not answered with success did not happen, or comes again.
            runtime.shutdown_background();
        })?;
        Ok(Self { requests, stop: Some(stop), thread: Some(thread) })
    }

    /// All requests there are now.
    pub fn requests(&self) -> impl Iterator<Item = Incoming> {
        self.requests.try_iter()
    }

    /// Whether it serves no more, after an error or a panic of its own.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked of it has said.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, bounds: Bounds, door: &Arc<Door>, stopped: oneshot::Receiver<()>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(bounds.connections));
    tokio::select! {
        () = accept(&listener, bounds, door, &places) => {}
        _ = stopped => {}
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    bounds: Bounds,
    door: &Arc<Door>,
    places: &Arc<Semaphore>,
) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let door = door.clone();
                tokio::spawn(async move {
                    connection::serve(stream, bounds, door).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
