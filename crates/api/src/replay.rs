//! Reading topics' logs, and the groups that remember where they stand in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, ToSchema};

use crate::message::Message;
use crate::publish::Position;
use crate::rfc3339;

/// Where to begin reading. In text: `earliest`, `latest`, an offset such as `120`, or a time, in RFC 3339
/// (`2026-03-01T12:00:00Z`) or as `@` and milliseconds since 1970 (`@1772366400000`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
    /// This offset.
    Offset(u64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

/// The pattern of [`StartAt`] in text.
const START_PATTERN: &str = "^(earliest|latest|[0-9]{1,18}|@[0-9]{1,17}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2}))$";

/// A text is no [`StartAt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place to begin: give `earliest`, `latest`, an offset, `@` and milliseconds since 1970, or a time such as \
     2026-03-01T12:00:00Z"
)]
pub struct BadStart(pub String);

impl FromStr for StartAt {
    type Err = BadStart;

    fn from_str(text: &str) -> Result<Self, BadStart> {
        let found = match text {
            "earliest" => Some(Self::Earliest),
            "latest" => Some(Self::Latest),
            _ => match text.strip_prefix('@') {
                Some(ms) => ms.parse().ok().map(Self::Time),
                None => text.parse().ok().map(Self::Offset).or_else(|| rfc3339::parse(text).map(Self::Time)),
            },
        };
        found.ok_or_else(|| BadStart(text.to_owned()))
    }
}

impl fmt::Display for StartAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Time(ms) => write!(f, "@{ms}"),
        }
    }
}

impl Serialize for StartAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StartAt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for StartAt {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(START_PATTERN))
            .description(Some("`earliest`, `latest`, an offset, an RFC 3339 time, or `@` and milliseconds since 1970."))
            .examples([serde_json::json!("earliest")]);
        text.build().into()
    }
}
impl ToSchema for StartAt {}

/// The query of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadQuery {
    /// Which partition; 0 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where to begin; `earliest` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub from: Option<StartAt>,
    /// At most so many records; 100 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
    /// At most so many bytes, though one record is given even if it weighs more; 8 MiB if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// How long to wait for the first record, in milliseconds; not at all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 60_000)]
    pub wait_ms: Option<u64>,
}

/// The query of a tail (Server-Sent Events).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TailQuery {
    /// Which partition; all of them if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where to begin; `latest` if not given. A `Last-Event-ID` header goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(inline)]
    pub from: Option<StartAt>,
}

/// The query of a live subscription (Server-Sent Events).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LiveQuery {
    /// Subject pattern: `*` is one word, `#` any number of words, `>` the rest.
    pub subject: String,
    /// Of the subscriptions of one group each message reaches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A record of a topic's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Where.
    pub position: Position,
    /// When the broker took it, in milliseconds since 1970.
    pub appended_ms: i64,
    /// The message.
    pub message: Message,
}

/// What a read gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReadAnswer {
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: u64,
    /// The log's next offset.
    pub end: u64,
}

/// Records without a place to go on: of one key, or of a group's partitions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Records {
    /// The records.
    pub records: Vec<Record>,
}

/// The query of a read by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyQuery {
    /// The key in the path is base64 (the URL-safe alphabet, without padding) of the key's bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<bool>,
    /// At most so many records; 100 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
    /// Only records at this offset or later: behind the last one of the page before. The oldest if not given. Not of the last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// Joins a group, or gives a sign of life. Join at least every third of the group's `session_ms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// The member's id, chosen by it.
    pub member: String,
}

/// What a member has to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinAnswer {
    /// Grows with each change of membership.
    pub generation: u64,
    /// The member's partitions.
    pub partitions: Vec<u32>,
}

/// Reads on from where the group stands, without moving it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// The member.
    pub member: String,
    /// From its last join.
    pub generation: u64,
    /// At most so many records; 100 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub max: Option<u32>,
    /// How long to wait for the first record, in milliseconds; not at all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 60_000)]
    pub wait_ms: Option<u64>,
}

/// Commits the next offsets to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitRequest {
    /// The member, together with its generation; none for a group without members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// From the member's last join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The next offset to read, by partition.
    pub offsets: Vec<Position>,
}

/// Moves a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekRequest {
    /// This partition; all of them if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// Where to.
    pub to: StartAt,
}

/// Where a group stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPositions {
    /// By partition.
    pub partitions: Vec<GroupPartition>,
}

/// Where a group stands on a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupPartition {
    /// Which.
    pub partition: u32,
    /// The next offset to read, if one was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// The log's next offset.
    pub end: u64,
    /// Records not read yet.
    pub lag: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_begin_are_read() {
        for (text, want) in [
            ("earliest", StartAt::Earliest),
            ("latest", StartAt::Latest),
            ("12", StartAt::Offset(12)),
            ("@-5", StartAt::Time(-5)),
            ("1970-01-01T00:00:01Z", StartAt::Time(1000)),
        ] {
            assert_eq!(text.parse(), Ok(want));
            assert_eq!(want.to_string().parse(), Ok(want));
        }
        for text in ["", "first", "-1", "@", "99999999999999999999"] {
            assert!(text.parse::<StartAt>().is_err(), "{text}");
        }
    }
}
