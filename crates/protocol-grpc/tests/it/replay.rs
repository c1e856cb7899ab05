//! Replay, and groups.

use api::grpc as g;
use api::grpc::reader_client::ReaderClient;
use broker::definitions::{GroupConfig, GroupStart, RetentionConfig, TopicConfig};
use tonic::Code;

use crate::harness::{Server, body, next, refusal, soon};

/// A topic with a log of these messages.
async fn log(server: &Server, partitions: u32, count: usize) {
    let config = TopicConfig {
        retention: Some(RetentionConfig::default()),
        key_index: true,
        partitions: Some(partitions),
        ..Default::default()
    };
    server.session().declare_topic("t", config, true).await.unwrap();
    append(server, 0..count).await;
}

async fn append(server: &Server, numbers: std::ops::Range<usize>) {
    let message = |number: usize| types::Message {
        key: Some(format!("k{}", number % 7).into()),
        ..types::Message::new("t.x", number.to_string())
    };
    let to = broker::PublishTo::Topic("t".to_owned());
    let messages = numbers.map(message).collect();
    server.session().publish(&to, messages, broker::PublishOptions::default()).await.unwrap();
}

fn at(at: g::start_at::At) -> Option<g::StartAt> {
    Some(g::StartAt { at: Some(at) })
}

async fn all(client: &mut ReaderClient<tonic::transport::Channel>, request: g::ReplayRequest) -> Vec<String> {
    let mut answers = client.replay(request).await.unwrap().into_inner();
    let mut found = Vec::new();
    while let Some(answer) = soon(answers.message()).await.unwrap() {
        found.extend(answer.records.into_iter().map(|record| body(record.message)));
    }
    found
}

#[tokio::test]
async fn a_log_is_read_from_an_offset_a_time_or_the_end() {
    let server = Server::start().await;
    log(&server, 1, 2500).await;
    let mut client = ReaderClient::new(server.channel.clone());
    let request = || g::ReplayRequest { topic: "t".to_owned(), ..Default::default() };
    let numbers = |range: std::ops::Range<usize>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    assert_eq!(all(&mut client, request()).await, numbers(0..2500));
    let from = g::ReplayRequest { from: at(g::start_at::At::Offset(2400)), ..request() };
    assert_eq!(all(&mut client, from).await, numbers(2400..2500));
    let some = g::ReplayRequest { max: Some(1500), ..request() };
    assert_eq!(all(&mut client, some).await, numbers(0..1500));
    let late = g::ReplayRequest { from: at(g::start_at::At::TimeMs(i64::MAX)), ..request() };
    assert_eq!(all(&mut client, late).await, numbers(0..0));
    let beyond = g::ReplayRequest { from: at(g::start_at::At::Offset(9999)), ..request() };
    let status = client.replay(beyond).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::OutOfRange, "offset-out-of-range"));
    let unknown = g::ReplayRequest { from: at(g::start_at::At::Named(9)), ..request() };
    assert_eq!(refusal(&client.replay(unknown).await.unwrap_err()).2, "from.named");
}

#[tokio::test]
async fn a_replay_follows_all_partitions() {
    let server = Server::start().await;
    log(&server, 4, 100).await;
    let mut client = ReaderClient::new(server.channel.clone());
    let mut found = all(&mut client, g::ReplayRequest { topic: "t".to_owned(), ..Default::default() }).await;
    found.sort_by_key(|number| number.parse::<usize>().unwrap());
    assert_eq!(found, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    let latest = at(g::start_at::At::Named(g::start_at::Named::Latest.into()));
    let request = g::ReplayRequest { topic: "t".to_owned(), from: latest, follow: true, ..Default::default() };
    let mut answers = client.replay(request).await.unwrap().into_inner();
    append(&server, 100..110).await;
    let mut found = 0;
    while found < 10 {
        found += next(&mut answers).await.records.len();
    }
    server.drain.begin();
    assert_eq!(refusal(&soon(answers.message()).await.unwrap_err()).0, Code::Unavailable);
}

#[tokio::test]
async fn keys_and_groups_are_read() {
    let server = Server::start().await;
    log(&server, 2, 20).await;
    let mut client = ReaderClient::new(server.channel.clone());
    let last = g::LastValueRequest { topic: "t".to_owned(), key: "k3".into(), ..Default::default() };
    assert_eq!(body(client.last_value(last).await.unwrap().into_inner().message), "17");
    let none = g::LastValueRequest { topic: "t".to_owned(), key: "none".into(), ..Default::default() };
    assert_eq!(client.last_value(none).await.unwrap_err().code(), Code::NotFound);
    let key = g::ReadKeyRequest { topic: "t".to_owned(), key: "k3".into(), ..Default::default() };
    let found = client.read_key(key).await.unwrap().into_inner().records;
    let last = found.last().unwrap().position.unwrap().offset;
    assert_eq!(found.into_iter().map(|record| body(record.message)).collect::<Vec<_>>(), ["3", "10", "17"]);
    let page = g::ReadKeyRequest { topic: "t".to_owned(), key: "k3".into(), from: Some(last), ..Default::default() };
    let page = client.read_key(page).await.unwrap().into_inner();
    assert!(!page.more);
    assert_eq!(page.records.into_iter().map(|record| body(record.message)).collect::<Vec<_>>(), ["17"]);

    let config = GroupConfig { topic: "t".to_owned(), start: GroupStart::Earliest, session_ms: None };
    server.session().declare_group("g", config, true).await.unwrap();
    let (group, member) = ("g".to_owned(), "m".to_owned());
    let join = g::JoinGroupRequest { group: group.clone(), member: member.clone(), ..Default::default() };
    let joined = client.join_group(join).await.unwrap().into_inner();
    assert_eq!(joined.partitions, [0, 1]);
    let fetch = || g::FetchGroupRequest {
        group: group.clone(),
        member: member.clone(),
        generation: joined.generation,
        ..Default::default()
    };
    let records = client.fetch_group(fetch()).await.unwrap().into_inner().records;
    assert_eq!(records.len(), 20);
    let next_of = |partition| {
        let offsets = records.iter().filter_map(|record| record.position).filter(|at| at.partition == partition);
        g::Position { partition, offset: offsets.map(|at| at.offset + 1).max().unwrap_or(0) }
    };
    let commit = g::CommitGroupRequest {
        group: group.clone(),
        member: Some(member.clone()),
        generation: Some(joined.generation),
        offsets: vec![next_of(0), next_of(1)],
        ..Default::default()
    };
    client.commit_group(commit.clone()).await.unwrap();
    let odd = g::CommitGroupRequest { generation: None, ..commit };
    assert_eq!(refusal(&client.commit_group(odd).await.unwrap_err()).2, "member");
    assert!(client.fetch_group(fetch()).await.unwrap().into_inner().records.is_empty());
    let earliest = at(g::start_at::At::Named(g::start_at::Named::Earliest.into()));
    let seek = g::SeekGroupRequest { group: group.clone(), to: earliest, ..Default::default() };
    let moved = client.seek_group(seek).await.unwrap().into_inner().partitions;
    assert_eq!(moved.iter().map(|partition| partition.lag).sum::<u64>(), 20);
    client.leave_group(g::LeaveGroupRequest { group, member, ..Default::default() }).await.unwrap();
}
