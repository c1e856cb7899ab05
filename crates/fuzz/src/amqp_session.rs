//! A client's bytes through an AMQP connection, from its first one to its end, over a broker in memory.
//!
//! The first byte of the input says how it begins and whether frames are put right: mutations would hardly get past a login, or past a
//! frame's length, by chance.

use std::sync::Arc;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, channel, connection, queue};
use amq_protocol::types::{FieldTable, LongString};
use broker::{Broker, BrokerOptions};
use log::MemoryLog;
use net::{Drain, PeerInfo};
use protocol_amqp::{Amqp, AmqpOptions, reread};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;
use types::clock::{Clock, SystemClock};

use crate::http_body::run;
use crate::memory::bounded;

/// The client has logged in, and has a channel and a queue.
pub(crate) const LOGGED_IN: u8 = 1;
/// Lengths and ends of frames are put right.
pub(crate) const FRAMED: u8 = 2;
const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// What the client agrees to.
const FRAME_MAX: u32 = 8192;
/// Longest frame that is ever agreed on.
const MOST_BYTES: usize = 131_072;
const HEAD_BYTES: usize = 7;
const FRAME_END: u8 = 206;
/// What waits in the socket, in bytes.
const SOCKET_BYTES: usize = 64 * 1024;
/// Longer than any wait of a connection, on a clock that jumps over it.
const AGES: Duration = Duration::from_secs(24 * 3600);
/// What a run may hold whatever comes in, and for each byte of it: a few bytes declare a queue.
const BASE_BYTES: usize = 64 * 1024 * 1024;
const TIMES: usize = 8192;

/// A connection ends when its client does. Whole frames of the protocol come back, none longer than agreed on, or the protocol's header
/// alone; after a close comes nothing. A neighbour notices nothing.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut sent = if mode & LOGGED_IN == 0 { Vec::new() } else { beginning() };
    if mode & FRAMED == 0 {
        sent.extend_from_slice(bytes);
    } else {
        put_right(bytes, &mut sent);
    }
    let mut answer = Vec::new();
    bounded(sent.len(), BASE_BYTES, TIMES, || {
        run(async {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let log = Arc::new(MemoryLog::new());
            let broker = Broker::open(log, Arc::clone(&clock), BrokerOptions::default()).expect("an empty broker");
            let amqp = Amqp::new(broker, AmqpOptions::new(clock));
            answer = served(&amqp, &sent).await;
            let neighbour = served(&amqp, &beginning()).await;
            let last = frames(&neighbour).pop();
            // Its queue may be another one by now, which closes its channel.
            assert!(matches!(last, Some(AMQPFrame::Method(1, _))), "a neighbour is not served: {last:?}");
        });
    });
    judge(&answer);
}

/// What comes back for these bytes.
async fn served(amqp: &Amqp, sent: &[u8]) -> Vec<u8> {
    let (near, far) = tokio::io::duplex(SOCKET_BYTES);
    let peer = PeerInfo { addr: ([127, 0, 0, 1], 40_000).into(), tls: false, client_cn: None };
    let (mut reading, writing) = tokio::io::split(near);
    let client = async {
        let mut answer = Vec::new();
        reading.read_to_end(&mut answer).await.expect("a socket in memory");
        answer
    };
    let (drain, local) = (Drain::new(), ([127, 0, 0, 1], 5672).into());
    let all = async { tokio::join!(amqp.serve_one(far, peer, local, drain), client, write(writing, sent)) };
    let ((), answer, ()) = timeout(AGES, all).await.expect("the connection does not end with its client");
    answer
}

async fn write(mut writing: tokio::io::WriteHalf<DuplexStream>, sent: &[u8]) {
    // The server may have had enough.
    if writing.write_all(sent).await.is_ok() {
        let _ = writing.shutdown().await;
    }
}

fn judge(answer: &[u8]) {
    if answer == HEADER {
        return;
    }
    let mut is_over = false;
    for frame in frames(answer) {
        assert!(!is_over, "a frame behind the end of the connection: {frame:?}");
        is_over = matches!(frame, AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))));
    }
}

/// All frames of what came back, but those with text of a client's that is no UTF-8: it comes back as it was, and this reader cannot read it.
fn frames(mut answer: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !answer.is_empty() {
        let (frame, rest) = split(answer).unwrap_or_else(|| panic!("this is no frame: {answer:?}"));
        match parse_frame(frame) {
            Ok((after, frame)) => {
                assert!(after.is_empty(), "a frame has room left: {frame:?}");
                frames.push(frame);
            }
            Err(error) => {
                let payload = &frame[HEAD_BYTES..frame.len() - 1];
                let carries_text = match frame[0] {
                    // `basic.return`, `basic.deliver`, `basic.get-ok`.
                    1 => matches!(payload, [0, 60, 0, 50 | 60 | 71, ..]),
                    2 => reread(payload).as_deref() == Some(payload),
                    _ => false,
                };
                assert!(carries_text, "{error}: {frame:?}");
            }
        }
        answer = rest;
    }
    frames
}

/// The first frame, and what comes behind it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let size = u32::from_be_bytes(bytes.get(3..HEAD_BYTES)?.try_into().ok()?) as usize;
    assert!(size + 8 <= MOST_BYTES, "a frame is longer than any that was agreed on");
    let (frame, rest) = bytes.split_at_checked(size + 8)?;
    (frame.last() == Some(&FRAME_END)).then_some((frame, rest))
}

pub(crate) fn method(channel: u16, method: AMQPClass, out: &mut Vec<u8>) {
    let frame = AMQPFrame::Method(channel, method);
    let written = gen_frame(&frame)(WriteContext::from(Vec::new())).expect("a vector takes all");
    out.extend(written.into_inner().0);
}

/// Header, login, a channel, a queue.
pub(crate) fn beginning() -> Vec<u8> {
    let mut out = HEADER.to_vec();
    let response = LongString::from(b"\0guest\0guest".to_vec());
    let client_properties = FieldTable::default();
    let start = connection::StartOk { client_properties, mechanism: "PLAIN".into(), response, locale: "en_US".into() };
    let tune = connection::TuneOk { channel_max: 100, frame_max: FRAME_MAX, heartbeat: 0 };
    for said in [
        connection::AMQPMethod::StartOk(start),
        connection::AMQPMethod::TuneOk(tune),
        connection::AMQPMethod::Open(connection::Open { virtual_host: "/".into() }),
    ] {
        method(0, AMQPClass::Connection(said), &mut out);
    }
    method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})), &mut out);
    let declare = queue::Declare {
        queue: "q".into(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: FieldTable::default(),
    };
    method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)), &mut out);
    out
}

/// Frames as they stand there, each with the length that it has or as much of it as there is, and with its end.
fn put_right(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let [kind, c1, c0, s3, s2, s1, s0] = *head;
        let said = u32::from_be_bytes([s3, s2, s1, s0]) as usize;
        let len = said.min(rest.len()).min(FRAME_MAX as usize - 8);
        out.extend([kind, c1, c0]);
        out.extend(u32::try_from(len).expect("a short frame").to_be_bytes());
        out.extend(&rest[..len]);
        out.push(FRAME_END);
        bytes = rest.get(len + 1..).unwrap_or_default();
    }
}
