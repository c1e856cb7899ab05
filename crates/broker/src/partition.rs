//! Which partition of a topic a message goes to.

use std::num::NonZeroU32;

/// Messages without a key that go to one partition in a row before the next one takes over: runs make full batches.
pub const KEYLESS_RUN: u64 = 16;

/// The partition of a message: by its key as Kafka's own clients choose it, so that a key written through any protocol lands where a
/// Kafka producer would put it; without a key, partitions take turns in runs of [`KEYLESS_RUN`], told by `keyless`, a counter
/// that the caller keeps for the topic.
#[must_use]
pub fn partition(key: Option<&[u8]>, partitions: NonZeroU32, keyless: &mut u64) -> u32 {
    match key {
        Some(key) => key_partition(key, partitions),
        None => {
            let turn = *keyless / KEYLESS_RUN;
            *keyless = keyless.wrapping_add(1);
            u32::try_from(turn % u64::from(partitions.get())).unwrap_or(0)
        }
    }
}

/// The partition of a key: the positive part of murmur2 modulo the number of partitions. (Kafka's `DefaultPartitioner` and
/// `BuiltInPartitioner`.)
#[must_use]
pub fn key_partition(key: &[u8], partitions: NonZeroU32) -> u32 {
    (murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff) % partitions.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_what_kafkas_java_client_gives() {
        // Vectors of Kafka's own UtilsTest.
        for (key, want) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            #[allow(clippy::cast_possible_wrap, reason = "Java's integers are signed")]
            let hash = murmur2::murmur2(key.as_bytes(), murmur2::KAFKA_SEED) as i32;
            assert_eq!(hash, want, "{key}");
        }
        let ten = NonZeroU32::new(10).unwrap();
        assert_eq!(key_partition(b"21", ten), (-973_932_308_i32 & i32::MAX) as u32 % 10);
    }

    #[test]
    fn messages_without_a_key_take_turns_in_runs() {
        let three = NonZeroU32::new(3).unwrap();
        let mut counter = 0;
        let got: Vec<u32> = (0..KEYLESS_RUN * 4).map(|_| partition(None, three, &mut counter)).collect();
        let runs: Vec<u32> = got.chunks(usize::try_from(KEYLESS_RUN).unwrap()).map(|run| run[0]).collect();
        assert_eq!(runs, [0, 1, 2, 0]);
        assert!(got.chunks(usize::try_from(KEYLESS_RUN).unwrap()).all(|run| run.iter().all(|at| *at == run[0])));
        let mut end = u64::MAX;
        assert!(partition(None, three, &mut end) < 3);
        assert_eq!((partition(Some(b"k"), three, &mut end), end), (key_partition(b"k", three), 0));
    }
}
