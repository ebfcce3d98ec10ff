//! The listener: so many connections at a time, and no more wait in here.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Sender;
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

/// Serves until `stop` is told, or dropped. To be called in a thread of its own. `bell` must not block.
///
/// # Errors
/// When the runtime cannot be made, or the listener not be used.
pub fn serve(
    listener: TcpListener,
    bounds: Bounds,
    (requests, bell): (Sender<Incoming>, UnixStream),
    stop: oneshot::Receiver<()>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let served = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let door = Arc::new(Door { requests, bell });
        let places = Arc::new(Semaphore::new(bounds.connections));
        tokio::select! {
            () = accept(&listener, bounds, &door, &places) => {}
            _ = stop => {}
        }
        Ok(())
    });
    // Whoever is connected is cut off: what was not answered with success did not happen, or comes again.
    runtime.shutdown_background();
    served
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
