//! The frames of AMQP 0-9-1 that a load generator needs, written and read by hand.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// What stands before a frame's payload, and behind it.
const FRAME_HEAD: usize = 7;
const FRAME_TAIL: usize = 1;
/// Largest frame that is agreed on: what RabbitMQ proposes.
const FRAME_MAX: u32 = 131_072;
/// The one channel of a connection.
const CHANNEL: u16 = 1;
/// Room for what one read may bring.
const READ_BYTES: usize = 1 << 18;

/// Class and method, as in the specification.
pub(super) type Method = (u16, u16);
const START: Method = (10, 10);
const TUNE: Method = (10, 30);
const OPEN_OK: Method = (10, 41);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_OPEN_OK: Method = (20, 11);
const CHANNEL_CLOSE: Method = (20, 40);
pub(super) const EXCHANGE_DECLARE: Method = (40, 10);
pub(super) const EXCHANGE_DELETE: Method = (40, 20);
pub(super) const QUEUE_DECLARE: Method = (50, 10);
pub(super) const QUEUE_BIND: Method = (50, 20);
pub(super) const QUEUE_DELETE: Method = (50, 40);
pub(super) const QOS: Method = (60, 10);
pub(super) const CONSUME: Method = (60, 20);
const PUBLISH: Method = (60, 40);
pub(super) const ACK: Method = (60, 80);
pub(super) const NACK: Method = (60, 120);
pub(super) const CONFIRM_SELECT: Method = (85, 10);

/// Properties that a message may have here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Properties<'a> {
    pub(super) persistent: bool,
    pub(super) correlation: &'a [u8],
    pub(super) reply_to: &'a [u8],
}

/// Appends a short string.
pub(super) fn short(to: &mut Vec<u8>, text: &[u8]) {
    to.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(&text[..text.len().min(255)]);
}

/// Appends a long string, or a table of encoded fields.
pub(super) fn long(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// A table's fields of one string.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    short(&mut fields, name.as_bytes());
    fields.push(b'S');
    long(&mut fields, value.as_bytes());
    fields
}

fn frame(to: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    to.push(kind);
    to.extend_from_slice(&channel.to_be_bytes());
    long(to, payload);
    to.push(FRAME_END);
}

fn method_on(channel: u16, (class, method): Method, arguments: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
    arguments(&mut payload);
    let mut bytes = Vec::with_capacity(payload.len() + FRAME_HEAD + FRAME_TAIL);
    frame(&mut bytes, METHOD, channel, &payload);
    bytes
}

/// A method's frame.
pub(super) fn method(name: Method, arguments: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    method_on(CHANNEL, name, arguments)
}

/// The three frames of a message. Its body must fit into one frame.
pub(super) fn publish(exchange: &str, routing_key: &[u8], properties: Properties<'_>, body: &[u8]) -> Vec<u8> {
    let mut bytes = method(PUBLISH, |to| {
        to.extend_from_slice(&[0, 0]);
        short(to, exchange.as_bytes());
        short(to, routing_key);
        to.push(0);
    });
    let mut header = [&PUBLISH.0.to_be_bytes()[..], &[0, 0], &(body.len() as u64).to_be_bytes()].concat();
    let mut flags = 1_u16 << 12;
    flags |= u16::from(!properties.correlation.is_empty()) << 10;
    flags |= u16::from(!properties.reply_to.is_empty()) << 9;
    header.extend_from_slice(&flags.to_be_bytes());
    header.push(1 + u8::from(properties.persistent));
    for text in [properties.correlation, properties.reply_to] {
        if !text.is_empty() {
            short(&mut header, text);
        }
    }
    frame(&mut bytes, HEADER, CHANNEL, &header);
    frame(&mut bytes, BODY, CHANNEL, body);
    bytes
}

/// The correlation id and the reply-to of a content header.
pub(super) fn correlation_and_reply_to(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let flags = u16::from_be_bytes(header.get(12..14)?.try_into().ok()?);
    let has = |bit: u32| flags & (1 << bit) != 0;
    let mut rest = header.get(14..)?;
    let mut take = |width: usize| -> Option<&[u8]> {
        let length = match width {
            1 => usize::from(*rest.first()?),
            _ => usize::try_from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)).ok()?,
        };
        let text = rest.get(width..width + length)?;
        rest = rest.get(width + length..)?;
        Some(text)
    };
    for (bit, width) in [(15, 1), (14, 1), (13, 4)] {
        if has(bit) {
            take(width)?;
        }
    }
    // Delivery mode and priority are an octet each.
    let octets = usize::from(has(12)) + usize::from(has(11));
    rest = rest.get(octets..)?;
    let mut text = |bit: u32| -> Option<&[u8]> {
        if !has(bit) {
            return Some(&[]);
        }
        let length = usize::from(*rest.first()?);
        let text = rest.get(1..=length)?;
        rest = rest.get(1 + length..)?;
        Some(text)
    };
    Some((text(10)?, text(9)?))
}

/// The delivery tag of an ack, nack or deliver, and what follows it.
pub(super) fn tag(payload: &[u8], at: usize) -> anyhow::Result<(u64, u8)> {
    let bytes = payload.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).context("a method is cut off")?;
    Ok((u64::from_be_bytes(bytes), payload.get(at + 8).copied().unwrap_or_default()))
}

/// Class and method of a method's payload.
pub(super) fn name(payload: &[u8]) -> Method {
    match payload {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

/// The frame that the input begins with, if it is whole: its kind and payload.
fn whole(input: &[u8]) -> anyhow::Result<Option<(u8, &[u8])>> {
    let Some(head) = input.get(..FRAME_HEAD) else { return Ok(None) };
    let (kind, length) = (head[0], u32::from_be_bytes([head[3], head[4], head[5], head[6]]));
    anyhow::ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
    let end = FRAME_HEAD + usize::try_from(length)?;
    let Some(mark) = input.get(end) else { return Ok(None) };
    anyhow::ensure!(*mark == FRAME_END, "a frame has no end");
    let payload = &input[FRAME_HEAD..end];
    if kind == METHOD && matches!(name(payload), CONNECTION_CLOSE | CHANNEL_CLOSE) {
        anyhow::bail!("the server closes: {}", String::from_utf8_lossy(payload.get(6..).unwrap_or_default()));
    }
    Ok(Some((kind, payload)))
}

/// A connection with one channel.
pub(super) struct Wire {
    socket: TcpStream,
    input: BytesMut,
}

impl Wire {
    /// Opens it as guest, without heartbeats, and its channel.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        socket.set_nodelay(true)?;
        let mut wire = Self { socket, input: BytesMut::with_capacity(READ_BYTES) };
        wire.send(b"AMQP\x00\x00\x09\x01").await?;
        wire.answer(START).await?;
        let start_ok = method_on(0, (10, 11), |to| {
            long(to, &[]);
            short(to, b"PLAIN");
            long(to, b"\0guest\0guest");
            short(to, b"en_US");
        });
        wire.send(&start_ok).await?;
        wire.answer(TUNE).await?;
        let mut rest = method_on(0, (10, 31), |to| {
            to.extend_from_slice(&[0, 8]);
            to.extend_from_slice(&FRAME_MAX.to_be_bytes());
            to.extend_from_slice(&[0, 0]);
        });
        rest.extend(method_on(0, (10, 40), |to| {
            short(to, b"/");
            to.extend_from_slice(&[0, 0]);
        }));
        wire.send(&rest).await?;
        wire.answer(OPEN_OK).await?;
        wire.send(&method((20, 10), |to| short(to, b""))).await?;
        wire.answer(CHANNEL_OPEN_OK).await?;
        Ok(wire)
    }

    /// Writes frames.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(super) async fn send(&mut self, frames: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.write_all(frames).await?)
    }

    /// Waits for more to read. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// If the connection is gone.
    pub(super) async fn receive(&mut self) -> anyhow::Result<()> {
        self.input.reserve(READ_BYTES);
        anyhow::ensure!(self.socket.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        Ok(())
    }

    /// Hands on each frame that has come whole, by its kind and payload.
    ///
    /// # Errors
    /// Of what it is handed to; and if the server closes the channel or the connection, or sends what is no frame.
    pub(super) fn drain(&mut self, mut each: impl FnMut(u8, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut at = 0;
        while let Some((kind, payload)) = whole(&self.input[at..])? {
            each(kind, payload)?;
            at += FRAME_HEAD + payload.len() + FRAME_TAIL;
        }
        self.input.advance(at);
        Ok(())
    }

    /// Waits for a method. What came behind it stays to be read.
    async fn answer(&mut self, wanted: Method) -> anyhow::Result<()> {
        loop {
            while let Some((kind, payload)) = whole(&self.input)? {
                let came = kind == METHOD && name(payload) == wanted;
                let length = FRAME_HEAD + payload.len() + FRAME_TAIL;
                self.input.advance(length);
                if came {
                    return Ok(());
                }
            }
            self.receive().await?;
        }
    }

    /// Sends a method and waits for its answer, which by the specification's numbers is the next method of the class.
    ///
    /// # Errors
    /// If the server closes instead.
    pub(super) async fn call(
        &mut self,
        (class, method_id): Method,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> anyhow::Result<()> {
        let request = method((class, method_id), arguments);
        self.send(&request).await?;
        self.answer((class, method_id + 1)).await.with_context(|| format!("{class}.{method_id} is not answered"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_finds_where_it_goes_whatever_stands_before() {
        let message = publish("", b"q", Properties { persistent: true, correlation: b"12", reply_to: b"here" }, b"x");
        let method_end = FRAME_HEAD + usize::from(message[6]) + FRAME_TAIL;
        let length = usize::from(message[method_end + 6]);
        let header = &message[method_end + FRAME_HEAD..][..length];
        assert_eq!(correlation_and_reply_to(header), Some((&b"12"[..], &b"here"[..])));
        // A content type and an empty table before them.
        let mut longer = header[..14].to_vec();
        longer[12] |= 0b1010_0000;
        longer.extend_from_slice(b"\x01t\0\0\0\0");
        longer.extend_from_slice(&header[14..]);
        assert_eq!(correlation_and_reply_to(&longer), Some((&b"12"[..], &b"here"[..])));
        assert_eq!(correlation_and_reply_to(&longer[..longer.len() - 1]), None);
    }
}
