//! Record batches, version 2.

/// A record batch. (Placeholder until the codec lands.)
#[derive(Clone, Debug)]
pub struct RecordBatch(pub bytes::Bytes);
