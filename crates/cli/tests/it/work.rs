//! Messages: publish, consume, retry, dead letters, replay, request and reply.

use std::process::Stdio;

use serde_json::json;

use crate::harness::{Server, lines};

#[test]
fn messages_reach_the_queues_that_their_topic_is_bound_to() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    assert_eq!(server.run("topic create orders --retain 7d"), "topic \"orders\" created\n");
    server.run("queue create created");
    server.run("queue create eu");
    server.run("binding create orders created --subject 'orders.*.created'");
    server.run("binding create orders eu --header region=eu");

    let said = server.run("publish orders.eu.created '{\"order\": 1}' --key c7 --header region=eu");
    assert!(said.contains("at 0/0 to 2 queues"), "{said}");
    server.run("publish orders.us.created plain");
    let answer = server.run_with(
        "publish --topic orders --ndjson - -o json",
        "{\"subject\": \"orders.us.paid\", \"body\": [1]}\n\n{\"subject\": \"x\", \"text\": \"y\", \"headers\": {\"region\": \"eu\"}}\n",
    );
    assert_eq!(lines(&answer).iter().map(|one| one["queues"].clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);

    let taken = lines(&server.run("consume created --wait 0s -o json"));
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0]["message"]["body"], json!({"order": 1}));
    assert_eq!(taken[0]["message"]["headers"], json!({"region": "eu"}));
    assert_eq!(taken[1]["message"]["text"], json!("plain"));
    assert_eq!(server.run("consume eu --ack none --body"), "{\"order\": 1}\ny\n");
    assert_eq!(server.run("consume eu --wait 0s --body"), "{\"order\": 1}\ny\n", "a peek takes nothing");
    assert_eq!(server.run("consume eu --wait 0s --body"), "", "they were acknowledged");
}

#[test]
fn a_publish_that_nothing_takes_is_refused_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("topic create orders");
    let said = server.fails(4, "publish orders.x y");
    assert!(said.contains("went nowhere") && said.contains("binding create"), "{said}");
    let printed = server.command("publish orders.x y").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout), "", "what went nowhere is not said to be published");
    // Of several, those that were taken are counted.
    server.run("queue create some");
    server.run("binding create orders some --subject 'orders.*.taken'");
    let mut some = server.command("publish --topic orders --ndjson -");
    let mut child = some.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = "{\"subject\": \"orders.1.taken\", \"text\": \"x\"}\n{\"subject\": \"orders.2\", \"text\": \"y\"}\n";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "published 1 message\n");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 2"), "{output:?}");
}

#[test]
fn a_command_that_fails_sends_its_message_through_retries_to_the_dead_letters_and_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create payment --max-attempts 2 --retry-initial 10ms --retry-cap 20ms");
    server.run("publish --queue payment poison");
    server.run("publish --queue payment good");
    // The good one passes, the bad one comes twice.
    let script = "read body; test \"$body\" = good || { echo trying >&2; echo card declined >&2; exit 9; }";
    server.run(&format!("consume payment --max 3 --exec '{script}'"));
    server.until("dlq show payment -o json", |said| said.contains("poison"));
    let shown = server.run("dlq show payment");
    assert!(shown.contains("max-attempts") && shown.contains("exit code 9: card declined"), "{shown}");
    assert!(server.run("dlq list").contains("payment.dlq"), "{shown}");
    assert_eq!(server.run("dlq redrive payment"), "1 of 1 messages moved\n");
    assert_eq!(server.run("consume payment --wait 5s --max 1 --body"), "poison\n");

    // One that is of no use to try again goes there at once.
    server.run("publish --queue payment broken");
    server.run("consume payment --max 1 --exec 'exit 65' --reject-exit 65");
    server.until("dlq show payment -o json", |said| said.contains("broken"));
}

#[test]
fn a_message_taken_by_hand_is_settled_by_its_receipt() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work --retry-initial 10ms");
    server.run("publish --queue work x");
    let take = || lines(&server.run("consume work --ack manual --max 1 --wait 30s -o json"))[0].clone();
    let first = take();
    let receipt = first["receipt"].as_str().unwrap();
    server.run(&format!("queue extend work {receipt} --by 1m"));
    server.run(&format!("queue nack work {receipt} --error later --after 0s"));
    let again = take();
    assert_eq!(again["attempt"], json!(2));
    let receipt = again["receipt"].as_str().unwrap();
    server.run(&format!("queue ack work {receipt}"));
    let said = server.fails(4, &format!("queue ack work {receipt}"));
    assert!(said.contains("hint"), "{said}");
}

#[test]
fn a_topic_is_read_again_from_any_place() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("topic create log --retain forever");
    server.run_with("publish log.line --lines -", "a\nb\nc\n");
    let read = |from: &str| server.run(&format!("consume --topic log --from {from} --wait 0s --body"));
    assert_eq!(read("earliest"), "a\nb\nc\n");
    assert_eq!(read("1"), "b\nc\n");
    assert_eq!(read("latest"), "");
    assert_eq!(read("1970-01-01T00:00:00Z"), "a\nb\nc\n");
    assert_eq!(read("2100-01-01T00:00:00Z"), "");

    server.run("group create audit --topic log");
    let follow = "consume --topic log --group audit --body --wait 0s";
    assert_eq!(server.run(&format!("{follow} --max 2")), "a\nb\n");
    assert_eq!(server.run(follow), "c\n");
    assert_eq!(server.run(follow), "");
    assert!(server.run("group seek audit 1").contains("next 1"));
    assert_eq!(server.run(follow), "b\nc\n");
}

#[test]
fn a_log_is_replayed_into_a_queue_that_was_made_later() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("topic create log --retain forever --partitions 3");
    // More than one batch, over all partitions, and a queue that the topic feeds: what comes while it runs is not copied.
    server.run("queue create late");
    server.run("binding create log late --header later");
    let body: String = (0..1200)
        .map(|n| {
            format!(
                "{{\"subject\": \"log.line\", \"key\": \"k{n}\", \"headers\": {{\"n\": {n}}}, \"text\": \"{n}\"}}\n"
            )
        })
        .collect();
    server.run_with("publish --topic log --ndjson -", &body);
    assert_eq!(server.run("topic replay log --to late"), "1200 messages copied into queue \"late\"\n");
    let copied = lines(&server.run("consume late --wait 0s -o json"));
    let mut numbers: Vec<u64> = copied.iter().filter_map(|one| one["message"]["headers"]["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1200).collect::<Vec<_>>());
    assert_eq!(copied[0]["message"]["subject"], json!("log.line"));

    let one = "topic replay log --to late --partition 1 --from 2100-01-01T00:00:00Z -o json";
    assert!(server.run(one).contains("\"copied\": 0"));
    assert!(server.fails(3, "topic replay log --to nothing").contains("nothing"));
    assert!(server.fails(3, "topic replay nothing --to late").contains("nothing"));
    server.run("topic create plain");
    assert!(server.fails(4, "topic replay plain --to late").contains("--retain"));
}

#[test]
fn a_request_is_answered_and_one_that_nobody_could_answer_fails_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let said = server.fails(6, "request math.double 21 --timeout 30s");
    assert!(said.contains("nobody answers"), "{said}");
    let mut replier = server.command("reply 'math.*' --max 2 --exec 'read n; echo -n $((n * 2))'");
    let mut replier = replier.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    server.until("status -o json", |said| said.contains("\"live_subscriptions\": 1"));
    assert_eq!(server.run("request math.double 21 --timeout 30s"), "42\n");
    assert_eq!(server.run("request math.double 4 --timeout 30s"), "8\n");
    assert!(replier.wait().unwrap().success());
}
