//! `error.type`: what kind of error ended an operation, in few words that do not depend on the case.

use std::fmt;

use crate::contract::{DecodeError, EncodeError};
use crate::transport::{PublishError, TransportError};
use crate::{Error, Kind};

/// An error that spans and metrics can name.
pub trait ErrorType: fmt::Display {
    /// One of few words, the same for every error of the kind.
    fn error_type(&self) -> &'static str;
}

impl ErrorType for Error {
    fn error_type(&self) -> &'static str {
        match self.kind() {
            Kind::Transient { .. } => "transient",
            Kind::Terminal => "terminal",
        }
    }
}

impl ErrorType for PublishError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::NotFound(_) => "not_found",
            Self::WrongVersion { .. } => "wrong_version",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::LeaseLost => "lease_lost",
            Self::TooManyPending { .. } => "too_many_pending",
            Self::Unsupported { .. } => "unsupported",
            Self::Closed => "closed",
        }
    }
}

impl ErrorType for TransportError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported",
            Self::NotFound(_) => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Denied(_) => "denied",
            Self::Invalid(_) => "invalid",
            Self::Unavailable { .. } => "unavailable",
            Self::Closed => "closed",
        }
    }
}

impl ErrorType for DecodeError {
    fn error_type(&self) -> &'static str {
        match self {
            Self::OtherMessage { .. } => "other_message",
            Self::UnknownVersion { .. } => "unknown_version",
            Self::ContentType { .. } => "content_type",
            Self::Body { .. } => "body",
        }
    }
}

impl ErrorType for EncodeError {
    fn error_type(&self) -> &'static str {
        "encode"
    }
}
