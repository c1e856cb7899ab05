//! Record batches: what comes off the wire of a Kafka client and off the disk.
//!
//! The first byte of the input says whether the checksum is put right, since no mutation would get past it; a batch follows.

use bytes::Bytes;
use log::batch::{BatchBuilder, BatchOptions, Codec, Record, RecordBatch};

use crate::memory::bounded;

/// The largest block that is decompressed here.
const BLOCK_BYTES: usize = 256 * 1024;
/// What a codec may hold besides its input and the block: windows, buffers that grow by doubling.
const CODEC_BYTES: usize = 16 * 1024 * 1024;
/// Where the checksum of a batch stands.
const CRC: std::ops::Range<usize> = 17..21;

/// A batch is refused, or it is what it says: the checksum holds, its records come out, and made into a batch again they are the same.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let Some((mode, frame)) = input.split_first() else { return };
    let mut frame = frame.to_vec();
    if mode & 1 == 1 {
        reseal(&mut frame);
    }
    let len = frame.len();
    let frame = Bytes::from(frame);
    let Ok((batch, rest)) = bounded(len, 1024, 1, || RecordBatch::parse(frame.clone())) else { return };
    let whole = frame.slice(..len - rest.len());
    assert_eq!(batch.bytes(), whole, "a batch is passed on as it came");
    assert_eq!(stored_crc(&whole), Some(crc32c::crc32c(&whole[CRC.end..])), "a batch with a wrong checksum");
    let Ok(block) = bounded(len, CODEC_BYTES, 64, || batch.block_within(BLOCK_BYTES)) else { return };
    assert!(block.bytes().len() <= BLOCK_BYTES.max(len), "{} bytes of a block", block.bytes().len());
    let walk = || block.records().collect::<Result<Vec<Record>, _>>();
    let Ok(records) = bounded(block.bytes().len(), 4096, 64, walk) else {
        assert!(block.validate().is_err(), "records that cannot be read are valid");
        return;
    };
    block.validate().expect("records that can be read are not valid");
    assert_eq!(records.len(), block.record_count() as usize);
    for (place, record) in block.positions().zip(&records) {
        let place = place.expect("a record without a place");
        assert_eq!((place.offset, place.position), (record.offset, record.position));
        let one = block.record_from(place.position).expect("a record that cannot be read alone");
        assert_eq!(facts(&one), facts(record));
    }
    again(&batch, &records);
}

/// Puts the batch's checksum right.
fn reseal(frame: &mut [u8]) {
    // A batch ends where its length says, if it is all there.
    let len = frame.get(8..12).and_then(|len| len.try_into().ok()).map_or(0, i32::from_be_bytes);
    let end = usize::try_from(len).unwrap_or(0).saturating_add(12).min(frame.len());
    let Some(covered) = frame.get(CRC.end..end) else { return };
    let crc = crc32c::crc32c(covered);
    frame[CRC].copy_from_slice(&crc.to_be_bytes());
}

/// The checksum that a batch carries.
pub(crate) fn stored_crc(frame: &[u8]) -> Option<u32> {
    frame.get(CRC).and_then(|crc| crc.try_into().ok()).map(u32::from_be_bytes)
}

type Facts<'a> = (u32, i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a [u8], Option<&'a [u8]>)>);

fn facts(record: &Record) -> Facts<'_> {
    let headers = record.headers.iter().map(|header| (header.name, header.value)).collect();
    (record.offset_delta, record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers)
}

/// Builds the batch anew, with each codec in turn, and reads it back.
fn again(batch: &RecordBatch, records: &[Record]) {
    let codec = Codec::ALL[records.len() % Codec::ALL.len()];
    let options = BatchOptions { codec, base_timestamp_ms: Some(batch.base_timestamp_ms()), ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for record in records {
        let facts = facts(record);
        // An append time may be further from the base than a record's own time can be.
        if builder.push(Some(facts.0), facts.1, facts.2, facts.3, facts.4.iter().copied()).is_err() {
            return;
        }
    }
    let Ok(built) = builder.finish() else { return };
    let (read, rest) = RecordBatch::parse(built.bytes()).expect("our own batch cannot be read");
    assert!(rest.is_empty());
    let found = read.records().expect("our own block cannot be read");
    let found = found.collect::<Result<Vec<Record>, _>>().expect("our own records cannot be read");
    let (found, wanted): (Vec<_>, Vec<_>) = (found.iter().map(facts).collect(), records.iter().map(facts).collect());
    assert_eq!(found, wanted, "{codec:?}");
}
