//! A connection whose peer takes nothing is given up: the system itself would wait a quarter of an hour on a cut link,
//! and for ever on a peer that answers but reads nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A stream that fails when nothing could be written for too long.
pub struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Runs from the first write that did not go through.
    limit: Pin<Box<Sleep>>,
    stalled: bool,
}

impl<S> Patient<S> {
    /// Gives up after `patience`.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, limit: Box::pin(sleep(patience)), stalled: false }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = false;
            return done;
        }
        if !self.stalled {
            self.stalled = true;
            self.limit.as_mut().reset(Instant::now() + self.patience);
        }
        self.limit.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (near, _far) = duplex(16);
        let mut stream = Patient::new(near, PATIENCE);
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_is_not() {
        let (near, mut far) = duplex(16);
        let mut stream = Patient::new(near, PATIENCE);
        let reader = tokio::spawn(async move {
            let mut part = [0; 16];
            for _ in 0..8 {
                sleep(PATIENCE / 2).await;
                far.read_exact(&mut part).await.unwrap();
            }
        });
        stream.write_all(&[0; 128]).await.unwrap();
        reader.await.unwrap();
    }
}
