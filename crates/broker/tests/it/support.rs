//! What the tests of topics, groups and administration say over and over.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{
    BindingConfig, BindingTarget, PolicyConfig, PolicyScope, PolicyValues, RetentionConfig, TopicConfig,
};
use broker::views::{Published, ReadFrom, Record};
use broker::{PublishError, PublishOptions, PublishTo, Read, Session};
use types::{Filter, Message, Offset, SubjectPattern};

use crate::harness::Bench;

/// A topic that keeps everything.
pub(crate) fn kept() -> TopicConfig {
    TopicConfig { retention: Some(RetentionConfig::default()), ..TopicConfig::default() }
}

pub(crate) fn partitioned(partitions: u32) -> TopicConfig {
    TopicConfig { partitions: Some(partitions), ..kept() }
}

pub(crate) fn indexed() -> TopicConfig {
    TopicConfig { key_index: true, ..kept() }
}

pub(crate) fn through(topic: &str) -> PublishTo {
    PublishTo::Topic(topic.to_owned())
}

pub(crate) fn message(subject: &str, body: &str) -> Message {
    Message::new(subject.to_owned(), body.to_owned())
}

pub(crate) fn keyed(key: &str, body: &str) -> Message {
    Message { key: Some(key.to_owned().into()), ..message("", body) }
}

pub(crate) fn pattern(text: &str) -> SubjectPattern {
    SubjectPattern::parse(text).expect("a pattern")
}

pub(crate) fn to_topic(from: &str, to: &str, filter: Filter) -> BindingConfig {
    binding(from, BindingTarget::Topic(to.to_owned()), filter)
}

pub(crate) fn binding(from: &str, target: BindingTarget, filter: Filter) -> BindingConfig {
    BindingConfig { topic: from.to_owned(), target, filter: filter.into(), weight: None, arguments: Default::default() }
}

pub(crate) async fn try_publish(
    session: &Session,
    to: PublishTo,
    message: Message,
    options: PublishOptions,
) -> Result<Published, PublishError> {
    session.publish(&to, vec![message], options).await.map(|published| published[0].clone())
}

pub(crate) fn reading(partition: u32, from: ReadFrom) -> Read {
    Read { partition, from, max: 1_000, max_bytes: usize::MAX, wait: Duration::ZERO }
}

pub(crate) async fn read(session: &Session, topic: &str, partition: u32, from: ReadFrom) -> Vec<Record> {
    session.read(topic, reading(partition, from)).await.expect("reads").records
}

pub(crate) fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| body(&record.message)).collect()
}

pub(crate) fn body(message: &Message) -> String {
    String::from_utf8_lossy(message.body.as_deref().unwrap_or_default()).into_owned()
}

pub(crate) fn offsets(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.position.offset.0).collect()
}

pub(crate) fn at(offset: u64) -> ReadFrom {
    ReadFrom::Offset(Offset(offset))
}

pub(crate) fn policy(pattern: &str, applies_to: PolicyScope, overrides: PolicyValues) -> PolicyConfig {
    PolicyConfig { pattern: pattern.to_owned(), applies_to, overrides, ..PolicyConfig::default() }
}

/// A second session of the same broker, as another connection has it.
pub(crate) fn session_of(bench: &Bench) -> Arc<Session> {
    Arc::new(bench.session())
}
