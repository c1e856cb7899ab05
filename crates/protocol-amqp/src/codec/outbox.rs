//! What waits to be written to a socket.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_METHOD};
use bytes::{Buf, BufMut, Bytes};
use tokio::io::AsyncWrite;

use super::frame::OVERHEAD;
use super::method::BASIC;
use super::properties::{self, Properties};
use super::table::{with_length, write_short};

/// Bodies from this size on are written from where they are, smaller ones are copied between their frames.
const SHARED_BODY_BYTES: usize = 16 * 1024;
/// Memory of the tail that is kept, in bytes.
const KEPT_BYTES: usize = 64 * 1024;
/// Most pieces that one call to the system writes.
const MAX_SLICES: usize = 64;

/// How a message is on its way to a client.
pub(crate) enum Content<'a> {
    /// `basic.deliver`.
    Deliver { consumer_tag: &'a str, delivery_tag: u64, redelivered: bool },
    /// `basic.get-ok`.
    GetOk { delivery_tag: u64, redelivered: bool, message_count: u32 },
    /// `basic.return`.
    Return { reply_code: u16, reply_text: &'a str },
}

/// Bytes on their way to a client, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Whole pieces, the oldest first.
    pieces: VecDeque<Bytes>,
    /// What comes behind them. Its memory is kept from one write to the next.
    tail: Vec<u8>,
    /// Bytes of the tail that were written.
    tail_written: usize,
    len: usize,
    frame_max: usize,
}

impl Outbox {
    pub(crate) fn new(frame_max: u32) -> Self {
        Self { frame_max: usize::try_from(frame_max).unwrap_or(usize::MAX), ..Self::default() }
    }

    pub(crate) fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len + self.tail.len() - self.tail_written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// A method, by the protocol crate.
    pub(crate) fn method(&mut self, channel: u16, method: AMQPClass) {
        let frame = AMQPFrame::Method(channel, method);
        let start = self.tail.len();
        let tail = std::mem::take(&mut self.tail);
        let mut context = WriteContext::from(tail);
        context.position = start as u64;
        match gen_frame(&frame)(context) {
            Ok(written) => self.tail = written.into_inner().0,
            // A vector takes all that is written to it.
            Err(error) => tracing::error!(%error, "a method could not be written"),
        }
    }

    pub(crate) fn heartbeat(&mut self) {
        self.raw(&[8, 0, 0, 0, 0, 0, 0, FRAME_END]);
    }

    fn frame(&mut self, kind: u8, channel: u16, write: impl FnOnce(&mut Vec<u8>)) {
        self.tail.put_u8(kind);
        self.tail.put_u16(channel);
        with_length(&mut self.tail, write);
        self.tail.put_u8(FRAME_END);
    }

    /// `basic.ack` or `basic.nack` of a publish.
    pub(crate) fn confirm(&mut self, channel: u16, tag: u64, multiple: bool, is_ack: bool) {
        self.frame(FRAME_METHOD, channel, |out| {
            out.put_u16(BASIC);
            out.put_u16(if is_ack { 80 } else { 120 });
            out.put_u64(tag);
            out.put_u8(u8::from(multiple));
        });
    }

    /// A message: its method, its header, its body in as many frames as it takes.
    pub(crate) fn content(
        &mut self,
        channel: u16,
        how: &Content<'_>,
        exchange: &[u8],
        routing_key: &[u8],
        properties: &Properties,
        body: &Bytes,
    ) {
        let header = |out: &mut Vec<u8>| {
            properties::write(body.len() as u64, properties, out);
            true
        };
        self.content_with(channel, how, exchange, routing_key, header, body);
    }

    /// As [`content`](Self::content), with a header that `header` writes. `false` if that says so: nothing is written then.
    pub(crate) fn content_with(
        &mut self,
        channel: u16,
        how: &Content<'_>,
        exchange: &[u8],
        routing_key: &[u8],
        header: impl FnOnce(&mut Vec<u8>) -> bool,
        body: &Bytes,
    ) -> bool {
        let start = self.tail.len();
        self.frame(FRAME_METHOD, channel, |out| {
            out.put_u16(BASIC);
            match how {
                Content::Deliver { consumer_tag, delivery_tag, redelivered } => {
                    out.put_u16(60);
                    write_short(consumer_tag.as_bytes(), out);
                    out.put_u64(*delivery_tag);
                    out.put_u8(u8::from(*redelivered));
                }
                Content::GetOk { delivery_tag, redelivered, .. } => {
                    out.put_u16(71);
                    out.put_u64(*delivery_tag);
                    out.put_u8(u8::from(*redelivered));
                }
                Content::Return { reply_code, reply_text } => {
                    out.put_u16(50);
                    out.put_u16(*reply_code);
                    write_short(reply_text.as_bytes(), out);
                }
            }
            write_short(exchange, out);
            write_short(routing_key, out);
            if let Content::GetOk { message_count, .. } = how {
                out.put_u32(*message_count);
            }
        });
        let mut is_written = true;
        self.frame(FRAME_HEADER, channel, |out| is_written = header(out));
        if !is_written {
            self.tail.truncate(start);
            return false;
        }
        let mut body = body.clone();
        let most = self.frame_max.saturating_sub(OVERHEAD).max(1);
        while !body.is_empty() {
            let part = body.split_to(body.len().min(most));
            self.tail.put_u8(FRAME_BODY);
            self.tail.put_u16(channel);
            self.tail.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            if part.len() >= SHARED_BODY_BYTES {
                self.seal();
                self.len += part.len();
                self.pieces.push_back(part);
            } else {
                self.tail.extend_from_slice(&part);
            }
            self.tail.put_u8(FRAME_END);
        }
        true
    }

    /// Puts the tail behind the pieces.
    fn seal(&mut self) {
        if self.tail_written < self.tail.len() {
            let mut piece = Bytes::from(std::mem::take(&mut self.tail));
            piece.advance(self.tail_written);
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
        self.tail.clear();
        self.tail_written = 0;
    }

    /// Writes as much as the socket takes. Ready once all is written; the bytes written so far are added to `written`.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut W,
        written: &mut u64,
    ) -> Poll<std::io::Result<()>> {
        loop {
            if self.pieces.is_empty() {
                let Some(rest) = self.tail.get(self.tail_written..).filter(|rest| !rest.is_empty()) else {
                    self.tail.clear();
                    self.tail_written = 0;
                    self.tail.shrink_to(KEPT_BYTES);
                    return Pin::new(socket).poll_flush(context);
                };
                let done = std::task::ready!(Pin::new(&mut *socket).poll_write(context, rest))?;
                if done == 0 {
                    return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
                }
                *written += done as u64;
                self.tail_written += done;
                continue;
            }
            self.seal();
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let mut done = std::task::ready!(Pin::new(&mut *socket).poll_write_vectored(context, slices))?;
            if done == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            *written += done as u64;
            self.len = self.len.saturating_sub(done);
            while let Some(first) = self.pieces.front_mut() {
                if first.len() > done {
                    first.advance(done);
                    break;
                }
                done -= first.len();
                self.pieces.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::parse_frame;
    use amq_protocol::protocol::{basic, channel};

    use super::*;

    fn frames(outbox: &mut Outbox) -> Vec<AMQPFrame> {
        let mut out = Vec::new();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(outbox.poll_write(&mut context, &mut out, &mut 0).is_ready());
        assert!(outbox.is_empty());
        let (mut rest, mut frames) = (out.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (left, frame) = parse_frame(rest).unwrap();
            frames.push(frame);
            rest = left;
        }
        frames
    }

    #[test]
    fn the_protocol_crate_reads_what_is_written_here() {
        let mut outbox = Outbox::new(20_008);
        outbox.method(3, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
        outbox.confirm(1, 9, true, false);
        let deliver = Content::Deliver { consumer_tag: "ctag", delivery_tag: 5, redelivered: true };
        let body = Bytes::from(vec![7; 45_000]);
        outbox.content(2, &deliver, b"e", b"r", &Properties::default(), &body);
        outbox.content(
            2,
            &Content::GetOk { delivery_tag: 6, redelivered: false, message_count: 3 },
            b"",
            b"q",
            &Properties::default(),
            &Bytes::new(),
        );
        outbox.heartbeat();
        let frames = frames(&mut outbox);
        let nack = basic::Nack { delivery_tag: 9, multiple: true, requeue: false };
        let deliver = basic::Deliver {
            consumer_tag: "ctag".into(),
            delivery_tag: 5,
            redelivered: true,
            exchange: "e".into(),
            routing_key: "r".into(),
        };
        let get = basic::GetOk {
            delivery_tag: 6,
            redelivered: false,
            exchange: "".into(),
            routing_key: "q".into(),
            message_count: 3,
        };
        let method = |frame: &AMQPFrame| match frame {
            AMQPFrame::Method(channel, method) => Some((*channel, method.clone())),
            _ => None,
        };
        let methods: Vec<_> = frames.iter().filter_map(method).collect();
        assert_eq!(
            methods,
            [
                (3, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))),
                (1, AMQPClass::Basic(basic::AMQPMethod::Nack(nack))),
                (2, AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))),
                (2, AMQPClass::Basic(basic::AMQPMethod::GetOk(get))),
            ]
        );
        let bodies: Vec<usize> = frames
            .iter()
            .filter_map(|frame| if let AMQPFrame::Body(2, body) = frame { Some(body.len()) } else { None })
            .collect();
        assert_eq!(bodies, [20_000, 20_000, 5_000]);
        assert_eq!(frames.last(), Some(&AMQPFrame::Heartbeat));
    }

    /// Takes a few bytes at a time, and every other time none.
    struct Slow {
        taken: Vec<u8>,
        ready: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            self.ready = !self.ready;
            if !self.ready {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = bytes.len().min(700);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_added_while_a_socket_is_slow_stays_in_order() {
        let (mut whole, mut outbox) = (Outbox::new(131_072), Outbox::new(131_072));
        let mut slow = Slow { taken: Vec::new(), ready: false };
        let (mut context, mut written) = (Context::from_waker(std::task::Waker::noop()), 0);
        for number in 0..60u64 {
            let deliver = Content::Deliver { consumer_tag: "c", delivery_tag: number, redelivered: false };
            // Now and then one that is not copied.
            let body = Bytes::from(vec![number as u8; if number % 7 == 3 { SHARED_BODY_BYTES } else { 900 }]);
            for outbox in [&mut whole, &mut outbox] {
                outbox.content(1, &deliver, b"e", b"r", &Properties::default(), &body);
            }
            let _ = outbox.poll_write(&mut context, &mut slow, &mut written);
        }
        while outbox.poll_write(&mut context, &mut slow, &mut written).is_pending() {}
        let mut expected = Vec::new();
        assert!(whole.poll_write(&mut context, &mut expected, &mut 0).is_ready());
        assert!(slow.taken == expected && outbox.is_empty());
        assert_eq!(written, expected.len() as u64);
    }
}
