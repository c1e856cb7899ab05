//! Batches that others wrote, and ours read by others.

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;

use super::*;

/// Batches written by the Python client kafka-python 3.0, one a codec: three records at the deltas
/// 0, 1 and 4, of a transactional producer.
const FIXTURES: [(Codec, &str); 5] = [
    (
        Codec::None,
        "00000000000000000000006900000000022a6f6c9d0010000000040000018bcfe568000000018bcfe568fa0000000000\
     001267000300000009000000034e0000000e6f726465722d310870616964060a7472616365040102086e6f6e65010a74\
     72616365000e00f403020101000e00010800027800",
    ),
    (
        Codec::Gzip,
        "0000000000000000000000800000000002e8abcddc0011000000040000018bcfe568000000018bcfe568fa0000000000\
     001267000300000009000000031f8b0800e467016b02ffebe0656060e0cb2f4a492dd2353cc053909899328a47f128c6\
     8ed9b84a8a12935359189938f2f2f35219215c063e862fcc4c8c8c409a918381a98201004c1044cd56030000",
    ),
    (
        Codec::Snappy,
        "0000000000000000000000a70000000002fdc628530012000000040000018bcfe568000000018bcfe568fa0000000000\
     0012670003000000090000000382534e4150505900000000010000000100000062d60648880d0000000e6f726465722d\
     31c00c70616964fe0400fe0400fe0400fe0400fe0400fe0400fe0400fe0400fe0400fe0400fe0400fe04006e04003c06\
     0a7472616365040102086e6f6e6501090f40000e00f403020101000e00010800027800",
    ),
    (
        Codec::Lz4,
        "00000000000000000000008a000000000209eea3590013000000040000018bcfe568000000018bcfe568fa0000000000\
     0012670003000000090000000304224d1868405603000000000000bc42000000ff04880d0000000e6f726465722d31c0\
     0c706169640400ffffff0cf201060a7472616365040102086e6f6e65010f00f002000e00f403020101000e0001080002\
     780000000000",
    ),
    (
        Codec::Zstd,
        "00000000000000000000007a0000000002d92f195e0014000000040000018bcfe568000000018bcfe568fa0000000000\
     0012670003000000090000000328b52ffd605602fd01004403880d0000000e6f726465722d31c00c70616964060a7472\
     616365040102086e6f6e6501000e00f403020101000e000108000278000200640e6bc62b1706",
    ),
];

fn from_hex(hex: &str) -> Bytes {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect::<Vec<u8>>().into()
}

fn fixture_samples(value: &[u8]) -> [Sample; 3] {
    let headers =
        vec![(b"trace".to_vec(), Some(vec![1, 2])), (b"none".to_vec(), None), (b"trace".to_vec(), Some(Vec::new()))];
    let key = Some(b"order-1".to_vec());
    [
        Sample { key, headers, ..Sample::of(0, value) },
        Sample { value: None, timestamp_ms: 1_700_000_000_250, ..Sample::of(1, b"") },
        Sample { key: Some(Vec::new()), timestamp_ms: 1_699_999_999_999, ..Sample::of(4, b"x") },
    ]
}

fn fixture_options(codec: Codec) -> BatchOptions {
    BatchOptions {
        codec,
        producer: Some(Producer { id: 4711, epoch: 3, base_sequence: 9 }),
        transactional: true,
        leader_epoch: 0,
        ..BatchOptions::default()
    }
}

#[test]
fn batches_of_another_client_are_read() {
    for (codec, hex) in FIXTURES {
        let value = if codec == Codec::None { b"paid".to_vec() } else { b"paid".repeat(200) };
        let batch = parse_whole(from_hex(hex));
        assert_eq!(batch.codec(), codec);
        assert_eq!(read(&batch), fixture_samples(&value), "{codec:?}");
        assert_eq!(batch.producer(), fixture_options(codec).producer);
        assert!(batch.is_transactional() && !batch.is_control());
        assert_eq!((batch.base_offset(), batch.last_offset_delta(), batch.header().leader_epoch), (Offset(0), 4, 0));
        assert_eq!((batch.base_timestamp_ms(), batch.max_timestamp_ms()), (1_700_000_000_000, 1_700_000_000_250));
    }
}

#[test]
fn we_write_the_bytes_that_another_client_writes() {
    let ours = build(fixture_options(Codec::None), &fixture_samples(b"paid"));
    assert_eq!(ours.bytes(), from_hex(FIXTURES[0].1));
    // Snappy has one encoder in practice, so its framing can be held to the byte as well.
    let ours = build(fixture_options(Codec::Snappy), &fixture_samples(&b"paid".repeat(200)));
    let fixture = from_hex(FIXTURES[2].1);
    assert_eq!(ours.body()[..16], fixture[61..77]);
}

fn compression_of(codec: Codec) -> theirs::Compression {
    match codec {
        Codec::None => theirs::Compression::None,
        Codec::Gzip => theirs::Compression::Gzip,
        Codec::Snappy => theirs::Compression::Snappy,
        Codec::Lz4 => theirs::Compression::Lz4,
        Codec::Zstd => theirs::Compression::Zstd,
    }
}

/// Random samples that the other crate can show too: its headers are a map from text.
fn comparable_samples(rng: &mut fastrand::Rng) -> Vec<Sample> {
    let mut samples = random_samples(rng);
    for sample in &mut samples {
        for (index, (name, _)) in sample.headers.iter_mut().enumerate() {
            *name = format!("header-{index}").into_bytes();
        }
    }
    samples
}

/// Zstandard by the streaming calls, which our own code does not use.
fn their_zstd(bytes: &mut Bytes, compression: theirs::Compression) -> Result<Bytes, std::io::Error> {
    assert_eq!(compression, theirs::Compression::Zstd);
    zstd::stream::decode_all(&bytes[..]).map(Bytes::from)
}

#[test]
fn our_batches_are_read_by_another_crate() {
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (options, samples) = (random_options(&mut rng), comparable_samples(&mut rng));
        let mut bytes = build(options, &samples).bytes();
        let set = if options.codec == Codec::Zstd {
            theirs::RecordBatchDecoder::decode_with_custom_compression(
                &mut bytes,
                Some(|bytes: &mut Bytes, compression| Ok(their_zstd(bytes, compression)?)),
            )
        } else {
            theirs::RecordBatchDecoder::decode(&mut bytes)
        };
        let set = set.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        assert_eq!(set.compression, compression_of(options.codec), "seed {seed}");
        let read: Vec<Sample> = set.records.iter().map(|record| from_theirs(record, &options)).collect();
        assert_eq!(read, samples, "seed {seed}");
        let producer = set.records.first().map(|record| (record.producer_id, record.producer_epoch));
        let expected = options.producer.map_or((-1, -1), |producer| (producer.id, producer.epoch));
        assert_eq!(producer, Some(expected), "seed {seed}");
        assert!(set.records.iter().all(|r| r.transactional == options.transactional && !r.control), "seed {seed}");
    }
}

fn from_theirs(record: &theirs::Record, options: &BatchOptions) -> Sample {
    let headers = record.headers.iter();
    Sample {
        delta: (record.offset as u64 - options.base_offset.0) as u32,
        timestamp_ms: record.timestamp,
        key: record.key.as_deref().map(<[u8]>::to_vec),
        value: record.value.as_deref().map(<[u8]>::to_vec),
        headers: headers
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_deref().map(<[u8]>::to_vec)))
            .collect(),
    }
}

fn to_theirs(sample: &Sample, options: &BatchOptions) -> theirs::Record {
    let producer = options.producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: 0 });
    let text = |name: &[u8]| StrBytes::from_string(String::from_utf8(name.to_vec()).expect("names are text"));
    let header = |(name, value): &Header| (text(name), value.clone().map(Bytes::from));
    theirs::Record {
        transactional: options.transactional,
        control: false,
        delete_horizon: options.delete_horizon,
        partition_leader_epoch: options.leader_epoch,
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        timestamp_type: theirs::TimestampType::Creation,
        offset: (options.base_offset.0 + u64::from(sample.delta)) as i64,
        sequence: producer.base_sequence.wrapping_add(sample.delta as i32),
        timestamp: sample.timestamp_ms,
        key: sample.key.clone().map(Bytes::from),
        value: sample.value.clone().map(Bytes::from),
        headers: sample.headers.iter().map(header).collect::<IndexMap<_, _>>(),
    }
}

#[test]
fn batches_of_another_crate_are_read() {
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (options, mut samples) = (random_options(&mut rng), comparable_samples(&mut rng));
        let records: Vec<theirs::Record> = samples.iter().map(|sample| to_theirs(sample, &options)).collect();
        let encode = theirs::RecordEncodeOptions { version: 2, compression: compression_of(options.codec) };
        let mut out = bytes::BytesMut::new();
        let zstd = |raw: &mut bytes::BytesMut, out: &mut bytes::BytesMut, _| {
            out.extend_from_slice(&zstd::stream::encode_all(&raw[..], 1)?);
            Ok(())
        };
        let encoded = if options.codec == Codec::Zstd {
            theirs::RecordBatchEncoder::encode_with_custom_compression(&mut out, &records, &encode, Some(zstd))
        } else {
            theirs::RecordBatchEncoder::encode(&mut out, &records, &encode)
        };
        encoded.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
        let batch = parse_whole(out.freeze());
        // That crate lets the base offset be the first record's.
        let first = samples[0].delta;
        samples.iter_mut().for_each(|sample| sample.delta -= first);
        assert_eq!(batch.base_offset(), options.base_offset.plus(u64::from(first)), "seed {seed}");
        assert_eq!(read(&batch), samples, "seed {seed}");
        assert_eq!(batch.codec(), options.codec, "seed {seed}");
        assert_eq!(batch.is_transactional(), options.transactional, "seed {seed}");
        assert_eq!(batch.header().leader_epoch, options.leader_epoch, "seed {seed}");
    }
}
