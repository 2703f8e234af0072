//! Addresses on 127.0.0.1 for programs that are told where to listen.

use std::{
    net::{SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Where nobody listens, and each time another. Outside the ports that the kernel hands out: until the program listens
/// there, another could be given one of those, and whoever looks whether it listens could meet itself.
pub fn free_address() -> SocketAddr {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(process::id() % 1000).unwrap() * 10;
    let next = || 20_000 + (first + ASKED.fetch_add(1, Ordering::Relaxed)) % 10_000;
    let listen = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
    let mut free = std::iter::repeat_with(next).take(10_000).filter_map(|port| listen(port).ok());
    free.next().expect("no port from 20000 to 29999 is free")
}
