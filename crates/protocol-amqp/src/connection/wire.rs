//! A connection's socket, with what came in and what is to go out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_util::io::poll_read_buf;

use crate::codec::frame::{self, Frame};
use crate::codec::outbox::Outbox;
use crate::fault::Fault;
use crate::limits::{CLOSE_TIMEOUT, FRAME_MAX, READ_BYTES};

/// What carries a connection.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// A socket and its buffers.
pub(crate) struct Wire {
    socket: Box<dyn Socket>,
    /// Frames that are whole.
    frames: Bytes,
    /// What came behind them.
    input: BytesMut,
    pub(crate) out: Outbox,
    pub(crate) frame_max: u32,
    /// When the client was last heard of.
    pub(crate) heard: Instant,
    /// Bytes written so far.
    pub(crate) written: u64,
    /// Bytes read so far.
    pub(crate) read: u64,
}

/// Why a connection ended without a word.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the client closed the socket")]
    Closed,
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl Wire {
    pub(crate) fn new(socket: impl Socket + 'static) -> Self {
        Self {
            socket: Box::new(socket),
            frames: Bytes::new(),
            input: BytesMut::new(),
            out: Outbox::new(FRAME_MAX),
            frame_max: FRAME_MAX,
            heard: Instant::now(),
            written: 0,
            read: 0,
        }
    }

    /// Puts into force what was agreed on.
    pub(crate) fn agree(&mut self, frame_max: u32) {
        self.frame_max = frame_max;
        self.out.set_frame_max(frame_max);
    }

    /// The next frame, of what was read.
    ///
    /// # Errors
    /// See [`frame::whole`] and [`frame::next`].
    pub(crate) fn frame(&mut self) -> Result<Option<Frame>, Fault> {
        if self.frames.is_empty() {
            let whole = frame::whole(&self.input, self.frame_max)?;
            if whole == 0 {
                return Ok(None);
            }
            // At once, since each division of a buffer is counted.
            self.frames = self.input.split_to(whole).freeze();
        }
        frame::next(&mut self.frames)
    }

    /// The first bytes that came, once there are so many.
    pub(crate) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        self.input.first_chunk::<N>().copied()
    }

    pub(crate) fn skip(&mut self, bytes: usize) {
        drop(self.input.split_to(bytes.min(self.input.len())));
    }

    /// Reads what has come. Ready if there is something new.
    ///
    /// # Errors
    /// See [`Lost`].
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.input.reserve(READ_BYTES);
        let polled = poll_read_buf(Pin::new(&mut self.socket), context, &mut self.input)?;
        let Poll::Ready(read) = polled else {
            if self.input.is_empty() {
                // Most connections say nothing most of the time: what they will read into is not kept for them.
                self.input = BytesMut::new();
            }
            return Poll::Pending;
        };
        if read == 0 {
            return Poll::Ready(Err(Lost::Closed));
        }
        self.read += read as u64;
        self.heard = Instant::now();
        Poll::Ready(Ok(()))
    }

    /// Writes what waits. Ready once all is written.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.out.poll_write(context, &mut self.socket, &mut self.written).map_err(Lost::Socket)
    }

    /// Writes all that waits.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn flush(&mut self) -> Result<(), Lost> {
        std::future::poll_fn(|context| self.poll_flush(context)).await
    }

    /// Says that nothing more comes and waits until the client has read that, whatever it says meanwhile: a socket that is closed with
    /// something unread in it takes what was written with it.
    pub(crate) async fn linger(&mut self) {
        let gone = async {
            self.socket.shutdown().await?;
            loop {
                self.more().await?;
                self.input.clear();
            }
        };
        let _: Result<Result<(), Lost>, _> = timeout(CLOSE_TIMEOUT, gone).await;
    }

    /// Waits for more to come.
    ///
    /// # Errors
    /// See [`Lost`].
    pub(crate) async fn more(&mut self) -> Result<(), Lost> {
        std::future::poll_fn(|context| self.poll_read(context)).await
    }
}
