//! The JSON protocol over WebSocket: frames of a client, one a line, through a connection over a broker in memory.

use api::ws::{ClientFrame, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio_tungstenite::tungstenite::Message;

use crate::http_body::{Server, run};
use crate::memory::bounded;

/// Most frames of one run: what comes later says nothing new.
const MAX_FRAMES: usize = 24;
/// What waits in the socket, in bytes. All answers of a run fit, or the client would have to read while it writes.
const SOCKET_BYTES: usize = 16 * 1024 * 1024;
/// What a parser of frames may hold whatever it reads, and for each byte of it.
const BASE_BYTES: usize = 64 * 1024;
const TIMES: usize = 512;

/// A frame that is read is the same after it was written and read again. A connection answers with frames of the protocol only, confirms
/// publishes and settlements in their order, and ends with an error if a frame was none, and only then.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let frames: Vec<&[u8]> = input.split(|byte| *byte == b'\n').take(MAX_FRAMES).collect();
    let mut read = Vec::new();
    for frame in &frames {
        match bounded(frame.len(), BASE_BYTES, TIMES, || serde_json::from_slice::<ClientFrame>(frame)) {
            Ok(frame) => {
                let written = serde_json::to_string(&frame).expect("a frame can be written");
                let again: ClientFrame = serde_json::from_str(&written).expect("our own JSON");
                assert_eq!(format!("{again:?}"), format!("{frame:?}"), "written as {written}");
                read.push(frame);
            }
            Err(_) => break,
        }
    }
    let is_broken = read.len() < frames.len();
    run(async {
        let answers = connection(&frames).await;
        judge(&read, &answers, is_broken);
    });
}

/// Sends the frames, then a close, and gives what came back.
async fn connection(frames: &[&[u8]]) -> Vec<ServerFrame> {
    let server = Server::start().await;
    let (near, far) = tokio::io::duplex(SOCKET_BYTES);
    let service = TowerToHyperService::new(server.router.clone());
    let serving = tokio::spawn(async move {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades().await
    });
    let (socket, _) = tokio_tungstenite::client_async("ws://localhost/v1/default/ws", near).await.expect("an upgrade");
    let (mut sink, mut stream) = socket.split();
    for frame in frames {
        let message = match std::str::from_utf8(frame) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(frame.to_vec()),
        };
        // The server may have had enough.
        if sink.send(message).await.is_err() {
            break;
        }
    }
    // A pong to a ping of ours comes after everything that was in order before it.
    let _ = sink.close().await;
    let mut answers = Vec::new();
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message {
            let answer: ServerFrame = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let again = serde_json::to_string(&answer).expect("a frame can be written");
            let again: ServerFrame = serde_json::from_str(&again).expect("our own JSON");
            assert_eq!(format!("{again:?}"), format!("{answer:?}"));
            answers.push(answer);
        }
    }
    serving.abort();
    answers
}

fn judge(read: &[ClientFrame], answers: &[ServerFrame], is_broken: bool) {
    assert!(matches!(answers.first(), Some(ServerFrame::Welcome { .. })), "{answers:?}");
    let errors = answers.iter().filter(|answer| matches!(answer, ServerFrame::Error { .. })).count();
    assert_eq!(errors, usize::from(is_broken), "{answers:?}");
    let publishes = read.iter().filter_map(|frame| match frame {
        ClientFrame::Publish(publish) => Some(publish.seq),
        _ => None,
    });
    let published = answers.iter().filter_map(|answer| match answer {
        ServerFrame::Published { seq, .. } => Some(*seq),
        _ => None,
    });
    in_order("publishes", publishes, published);
    let settles = read.iter().filter_map(|frame| match frame {
        ClientFrame::Settle(settle) => settle.seq,
        _ => None,
    });
    let settled = answers.iter().filter_map(|answer| match answer {
        ServerFrame::Settled { seq, .. } => *seq,
        _ => None,
    });
    in_order("settlements", settles, settled);
}

/// Each answer is to a frame after that of the answer before.
fn in_order(what: &str, mut asked: impl Iterator<Item = u64>, answered: impl Iterator<Item = u64>) {
    for seq in answered {
        assert!(asked.any(|wanted| wanted == seq), "{what}: {seq} was not asked, or not then");
    }
}
