//! How frames become messages: protobuf, with buffers for many messages a frame.

use std::marker::PhantomData;

use bytes::Buf;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What a call's buffers begin with, in bytes. They grow with what is in them.
const BUFFER_BYTES: usize = 8 * 1024;
/// Frames that are ready are written together until they pass this, in bytes.
const YIELD_BYTES: usize = 256 * 1024;

/// Protobuf in both directions. A frame that is not what the `.proto` files say is the sender's fault: `INVALID_ARGUMENT`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProtoEncoder<T>;
    type Decoder = ProtoDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProtoEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProtoDecoder(PhantomData)
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub struct ProtoEncoder<T>(PhantomData<T>);

impl<T: prost::Message> Encoder for ProtoEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode_raw(buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub struct ProtoDecoder<U>(PhantomData<U>);

impl<U: prost::Message + Default> Decoder for ProtoDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Nothing is copied here, nor below for bodies, keys and texts of messages: they are slices of the frame.
        let frame = buffer.copy_to_bytes(buffer.remaining());
        match U::decode(frame) {
            Ok(item) => Ok(Some(item)),
            Err(error) => Err(Status::invalid_argument(format!("the frame cannot be read: {error}"))),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
