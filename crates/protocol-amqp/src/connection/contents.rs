//! Messages as they come in: a method, a header, a body in pieces.

use bytes::Bytes;
use types::limits::DEFAULT_MAX_BODY_BYTES;

use super::Open;
use crate::channel::{Body, Channel, Content};
use crate::codec::method::{PUBLISH, Publish};
use crate::codec::properties;
use crate::fault::Fault;
use crate::limits::MAX_PARTIAL_BYTES;

impl Open {
    /// `basic.publish`: its message follows.
    pub(super) fn begin_content(&mut self, number: u16, publish: Publish) -> Result<(), Fault> {
        if publish.immediate {
            return Err(Fault::not_implemented("immediate=true"));
        }
        let Some(channel) = self.open_channel(number)? else { return Ok(()) };
        channel.content = Some(Content { publish, properties: None, left: 0, body: Body::Empty });
        Ok(())
    }

    /// The channel of this number; `None` if it is being closed, and what comes in on it does not count.
    ///
    /// # Errors
    /// 504 if it is not open, 505 if a message's frames were to come first.
    pub(super) fn open_channel(&mut self, number: u16) -> Result<Option<&mut Channel>, Fault> {
        match self.channels.get_mut(number) {
            None => Err(Fault::channel_error("expected 'channel.open'")),
            Some(channel) if channel.closing => Ok(None),
            Some(channel) if channel.content.is_some() => {
                let why = "expected content header or body for class 60, got a method";
                Err(Fault::unexpected_frame(why).of(PUBLISH))
            }
            Some(channel) => Ok(Some(channel)),
        }
    }

    /// A content header.
    pub(super) fn header(&mut self, number: u16, payload: Bytes) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else {
            return Err(Fault::channel_error("expected 'channel.open'"));
        };
        if channel.closing {
            return Ok(());
        }
        let Some(content) = channel.content.as_mut() else {
            return Err(Fault::unexpected_frame("expected method frame, got a content header"));
        };
        if content.properties.is_some() {
            return Err(Fault::unexpected_frame("expected content body, got a content header").of(PUBLISH));
        }
        let (size, properties) = properties::read(payload).map_err(|fault| fault.of(PUBLISH))?;
        let most = DEFAULT_MAX_BODY_BYTES as u64;
        if size > most {
            // Its frames are on their way; with the channel they are passed over.
            let why = format!("message size {size} is larger than configured max size {most}");
            return Err(Fault::precondition_failed(why).of(PUBLISH));
        }
        (content.left, content.properties) = (size, Some(properties));
        if size == 0 { self.content_complete(number) } else { Ok(()) }
    }

    /// A piece of a body.
    pub(super) fn body(&mut self, number: u16, payload: Bytes) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else {
            return Err(Fault::channel_error("expected 'channel.open'"));
        };
        if channel.closing {
            return Ok(());
        }
        let Some(content) = channel.content.as_mut() else {
            return Err(Fault::unexpected_frame("expected method frame, got a content body"));
        };
        if content.properties.is_none() {
            return Err(Fault::unexpected_frame("expected content header, got a content body").of(PUBLISH));
        }
        let len = payload.len() as u64;
        if len > content.left {
            return Err(Fault::unexpected_frame("a body is longer than its header announced").of(PUBLISH));
        }
        content.left -= len;
        if content.left == 0 {
            self.partial_bytes = self.partial_bytes.saturating_sub(content.body.len());
            content.body.push(payload);
            return self.content_complete(number);
        }
        self.partial_bytes += payload.len();
        content.body.push(payload);
        if self.partial_bytes > MAX_PARTIAL_BYTES {
            let why = format!(
                "messages that have not come in whole take more than {MAX_PARTIAL_BYTES} bytes (MAX_PARTIAL_BYTES)"
            );
            return Err(Fault::resource_error(why).of(PUBLISH));
        }
        Ok(())
    }

    /// Forgets a message that has not come in whole.
    pub(super) fn forget_content(partial_bytes: &mut usize, channel: &mut Channel) {
        if let Some(content) = channel.content.take() {
            *partial_bytes = partial_bytes.saturating_sub(content.body.len());
        }
    }
}
