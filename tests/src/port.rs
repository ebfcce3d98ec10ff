//! TCP ports that stay ours while a server is down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use crate::directory;

/// Below the range from which the kernel picks ports of outgoing connections (32768 by default): a port there could
/// be taken while its server restarts.
const PORTS: Range<u16> = 20_000..32_000;

/// A port on 127.0.0.1 that no other test uses as long as this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The lock on this file is the reservation.
    _reservation: File,
}

impl Port {
    /// Reserves a free port.
    pub fn reserve() -> Self {
        for _ in 0..1000 {
            let number = fastrand::u16(PORTS);
            if let Some(port) = Self::try_reserve(number) {
                return port;
            }
        }
        panic!("no free port between {} and {}", PORTS.start, PORTS.end);
    }

    fn try_reserve(number: u16) -> Option<Self> {
        let directory = directory::root().join("ports");
        fs::create_dir_all(&directory).expect("the directory of port locks can be made");
        let lock = File::create(directory.join(number.to_string())).expect("a port lock can be made");
        lock.try_lock().ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _reservation: lock })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_out_twice() {
        let port = Port::reserve();
        assert!(Port::try_reserve(port.number()).is_none());
    }
}
