//! A round's bytes.

use bytes::Bytes;

use super::committer::Writer;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::intake::Pending;
use super::options::COPY_PAYLOAD_BYTES;
use super::published::Payload;

/// A round as it is written.
#[derive(Default)]
pub(super) struct Encoded {
    /// Payloads that are not copied: each stands in the buffer before this byte.
    pub(super) large: Vec<(usize, Bytes)>,
    /// The payloads' places, of all commits one after the other.
    pub(super) payloads: Vec<Payload>,
    pub(super) bytes: u64,
}

/// Puts the round's bytes into the writer's buffer, but for the large payloads.
pub(super) fn encode_round(writer: &mut Writer, commits: &[Pending]) -> Encoded {
    let mut encoded = Encoded::default();
    writer.buffer.clear();
    if let Some(header) = &writer.header {
        writer.buffer.extend_from_slice(&header.encode());
    }
    encoded.payloads.reserve(commits.iter().map(|commit| commit.payloads.len()).sum());
    let count = commits.iter().filter(|commit| commit.frame_bytes > 0).count();
    let mut index = 0;
    for commit in commits {
        let frame_pos = writer.pos + encoded.bytes;
        let mut at = frame_pos + (FRAME_HEADER_BYTES + commit.targets.len()) as u64;
        let first = encoded.payloads.len();
        encoded.payloads.extend(in_memory(commit));
        if commit.frame_bytes > 0 {
            let on_disk = || commit.on_disk().filter_map(|index| commit.payloads.get(index));
            index += 1;
            let header = FrameHeader {
                seq: writer.seq,
                round: writer.round + 1,
                synced: writer.synced,
                boot: writer.boot,
                index: index - 1,
                frame_bytes: narrow(commit.frame_bytes),
                targets_bytes: narrow(commit.targets.len() as u64),
                payload_crc: on_disk().fold(0, |crc, payload| crc32c::crc32c_append(crc, &payload.bytes)),
                payload_bytes: narrow(on_disk().map(|payload| payload.bytes.len() as u64).sum()),
                last_of_round: index as usize == count,
            };
            header.encode(&commit.targets, &mut writer.buffer);
            for number in commit.on_disk() {
                let Some(payload) = commit.payloads.get(number) else { continue };
                let len = payload.bytes.len() as u64;
                if let Some(placed) = encoded.payloads.get_mut(first + number) {
                    placed.place = Some((writer.seq, narrow(at), narrow(len)));
                }
                at += len;
                if payload.bytes.len() <= COPY_PAYLOAD_BYTES {
                    writer.buffer.extend_from_slice(&payload.bytes);
                } else {
                    encoded.large.push((writer.buffer.len(), payload.bytes.clone()));
                }
            }
            let padding = frame_pos + commit.frame_bytes - at;
            writer.buffer.resize(writer.buffer.len() + usize::try_from(padding).unwrap_or(0), 0);
            encoded.bytes += commit.frame_bytes;
        }
    }
    encoded
}

/// A commit's payloads, as far as they have no place on the disk.
pub(super) fn in_memory(commit: &Pending) -> impl Iterator<Item = Payload> {
    commit.payloads.iter().map(|payload| Payload {
        place: None,
        max_ts: payload.batch.max_timestamp_ms(),
        batch: Some(payload.batch.clone()),
    })
}

/// Sizes and places within a file, which the largest frame keeps within 32 bits.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
