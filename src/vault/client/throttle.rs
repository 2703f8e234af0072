//! A limit to the bytes that go over a line in a second, shared by all requests of a process.

use std::{
    fmt,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

/// Bytes that pass at a time: small enough that no request stands still for long.
const PART: usize = 32 << 10;

/// Says how many bytes a second may pass now; nothing if there is no limit now.
type Limit = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// The limit, and when the next byte may pass.
pub struct Throttle {
    limit: Limit,
    next: Mutex<Instant>,
}

impl Throttle {
    /// Asks `limit` again for each part that passes.
    #[must_use]
    pub fn new(limit: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self { limit: Box::new(limit), next: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes more may pass.
    fn pass(&self, bytes: usize) {
        let Some(limit) = (self.limit)() else { return };
        let time = Duration::from_secs(bytes as u64) / u32::try_from(limit.max(1)).unwrap_or(u32::MAX);
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = (*next).max(now);
        *next = turn + time;
        drop(next);
        sleep(turn.duration_since(now));
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Throttle")
    }
}

/// What is read through a limit.
pub(super) struct Throttled<R> {
    /// Where it comes from.
    pub(super) inner: R,
    /// The limit, if there is one.
    pub(super) throttle: Option<Arc<Throttle>>,
}

impl<R: Read> Read for Throttled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(throttle) = &self.throttle else { return self.inner.read(buffer) };
        let most = buffer.len().min(PART);
        let read = self.inner.read(&mut buffer[..most])?;
        throttle.pass(read);
        Ok(read)
    }
}
