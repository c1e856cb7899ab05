//! Frames of the gRPC API: messages, which are read and written by hand, and the frames of streams around them.
//!
//! The first byte of the input says which kind of frame the rest is.

use api::grpc as g;
use bytes::Bytes;
use types::Timestamp;

use crate::memory::bounded;
use crate::reference;

/// What a decoder may hold whatever it reads, and for each byte of it: two bytes can say that an empty message follows.
const BASE_BYTES: usize = 16 * 1024;
const TIMES: usize = 1024;

/// A frame is refused, or it is the same after it was written and read again; a message is the one that a decoder made from the `.proto`
/// files sees.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let Some((kind, frame)) = input.split_first() else { return };
    let frame = Bytes::copy_from_slice(frame);
    match kind % 5 {
        0 => message(&frame),
        1 => {
            if let Some(frame) = again::<g::PublishFrame>(&frame) {
                frame.messages.into_iter().for_each(content);
            }
        }
        2 => drop(again::<g::ConsumeRequest>(&frame)),
        3 => drop(again::<g::Header>(&frame)),
        _ => drop(again::<g::PublishRequest>(&frame)),
    }
}

/// Reads a frame, and holds it against what it is after it was written and read again. NaN is not itself, so bytes are compared.
fn again<M: prost::Message + Default + Clone>(frame: &Bytes) -> Option<M> {
    let read = bounded(frame.len(), BASE_BYTES, TIMES, || M::decode(frame.clone())).ok()?;
    let written = read.encode_to_vec();
    assert_eq!(written.len(), read.encoded_len(), "the length that is announced");
    let read_again = M::decode(written.as_slice()).expect("our own frame");
    assert_eq!(read_again.encode_to_vec(), written, "written, read and written again");
    Some(read)
}

fn message(frame: &Bytes) {
    let Some(read) = again::<g::Message>(frame) else { return };
    // What the hand-written decoder takes, the one of the `.proto` file takes too, and says the same of it.
    let other = <reference::Message as prost::Message>::decode(frame.clone()).expect("taken by one decoder only");
    // A subject that was given and then emptied is where the two part, and nobody writes that.
    let is_cleared = other.has_no_subject();
    let other = prost::Message::encode_to_vec(&other);
    let through = <g::Message as prost::Message>::decode(other.as_slice()).expect("what the other decoder wrote");
    if !is_cleared && read.clone().into_message(NOW).is_ok() {
        assert_eq!(
            prost::Message::encode_to_vec(&through),
            prost::Message::encode_to_vec(&read),
            "by way of the other decoder"
        );
    }
    content(read);
}

const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// The broker's message goes out as it came in.
fn content(message: g::Message) {
    let weight = message.weight_bytes();
    let Ok(message) = message.into_message(NOW) else { return };
    assert_eq!(message.weight_bytes(), weight, "what a message weighs");
    let out = prost::Message::encode_to_vec(&g::Message::from(message.clone()));
    let back = <g::Message as prost::Message>::decode(out.as_slice()).expect("our own message");
    let back = back.into_message(NOW).expect("our own message makes sense");
    assert_eq!(format!("{back:?}"), format!("{message:?}"));
}
