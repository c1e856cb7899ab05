//! Administration, exit codes, help and what is generated.

use serde_json::{Value, json};

use crate::harness::{Server, failed, posthouse};

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    assert!(server.fails(2, "queue create").contains("Usage"));
    assert!(server.fails(2, "queue create work --lease soon").contains("time span"));
    assert!(server.fails(3, "queue show nothing").contains("hint"));
    assert!(
        server.fails(4, "queue create work --lease 7m").contains("queue update")
            || !server.fails(4, "queue create work --lease 7m").is_empty()
    );
    let said = failed(posthouse().args(["queue", "list", "--url", "http://127.0.0.1:1"]), 7);
    assert!(said.contains("posthouse serve"), "{said}");
    assert!(server.fails(2, "queue list --user somebody").contains("--password"));
    assert!(server.fails(2, "queue list --url ftp://x").contains("--url"));
}

#[test]
fn entities_are_made_shown_changed_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let json = |line: &str| -> Value { serde_json::from_str(&server.run(&format!("{line} -o json"))).unwrap() };

    server.run("topic create t --retain 1d");
    assert_eq!(server.run("topic create t --retain 1d"), "topic \"t\" is there already, unchanged\n");
    assert_eq!(server.run("topic update t --retain 2d --retain-bytes 1GiB"), "topic \"t\" updated\n");
    assert_eq!(json("topic show t")["retention"], json!({"max_age_ms": 172_800_000, "max_bytes": 1 << 30}));
    server.run("queue create q --priorities 4 --max-messages 10");
    server.run("queue update q --ttl 1h");
    let queue = json("queue show q");
    assert_eq!((&queue["effective"]["priority_levels"], &queue["effective"]["ttl_ms"]), (&json!(4), &json!(3_600_000)));
    server.run("binding create t q");
    assert_eq!(json("binding list --topic t")[0]["config"]["target"], json!({"queue": "q"}));
    server.run("binding delete t q");
    assert_eq!(json("binding list"), json!([]));
    server.fails(3, "binding delete t q");
    server.run("group create g --topic t");
    assert_eq!(json("group list")[0]["name"], json!("g"));
    server.run("policy create p 'q*' --applies-to queues --override ttl_ms=5m");
    assert_eq!(json("queue show q")["effective"]["ttl_ms"], json!(300_000));
    assert!(server.run("policy list").contains("q*"));
    server.run("policy delete p");
    assert_eq!(json("queue show q")["effective"]["ttl_ms"], json!(3_600_000));
    server.run_with("publish --queue q --lines -", "a\nb\n");
    assert!(server.run("queue browse q").contains("ready"));
    server.fails(4, "queue delete q --if-empty");
    assert_eq!(server.run("queue purge q"), "2 messages removed from queue \"q\"\n");
    assert_eq!(server.run("queue delete q"), "queue \"q\" deleted\n");
    server.run("group delete g");
    server.run("topic delete t");
    assert_eq!(json("topic list"), json!([]));
}

#[test]
fn every_list_shows_what_was_just_made() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    // Each noun, its entry's making, and what a row then says.
    let nouns = [
        ("topic", "topic create one --retain 1h", "one "),
        ("queue", "queue create one", "one "),
        ("binding", "binding create one one", "one "),
        ("group", "group create one --topic one", "one "),
        ("policy", "policy create one 'x*' --applies-to queues --override ttl_ms=5m", "one "),
        ("namespace", "namespace create one", "one "),
        ("dlq", "queue create other", "other.dlq "),
        ("user", "user create one --admin --password-stdin", "one "),
    ];
    for (noun, create, row) in nouns {
        server.run_with(create, "secret\n");
        let credentials = if noun == "user" { "--user one --password secret" } else { "" };
        let listed = server.run(&format!("{noun} list {credentials}"));
        assert!(listed.lines().skip(1).any(|line| line.contains(row)), "{noun} list says\n{listed}");
        let json: Value = serde_json::from_str(&server.run(&format!("{noun} list -o json {credentials}"))).unwrap();
        assert!(json.as_array().is_some_and(|items| !items.is_empty()), "{noun} list says\n{json}");
    }
    let credentials = "--user one --password secret";
    server.run(&format!("token create one --description ci {credentials}"));
    assert!(server.run(&format!("token list {credentials}")).contains("ci"));
}

#[test]
fn namespaces_users_and_tokens() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("namespace create shop --max-queues 1");
    // The first user is made by anybody on this machine; then credentials are asked for.
    server.run_with("user create boss --admin --password-stdin", "secret\n");
    server.fails(5, "queue list");
    let boss = "--user boss --password secret";
    server.run_with(&format!("user create worker --password-stdin -n shop --configure 'w*' {boss}"), "pw\n");
    server.fails(4, &format!("user create worker {boss}"));
    let worker = "-n shop --user worker --password pw";
    server.run(&format!("queue create w1 {worker}"));
    assert!(server.fails(5, &format!("queue create other {worker}")).contains("hint"));
    assert!(server.fails(4, &format!("queue create w2 {worker}")).contains("max_queues"));
    server.fails(5, &format!("user list {worker}"));
    let token = server.run(&format!("token create worker --description ci --expires +1h {boss}"));
    let list = |token: &str| {
        let mut command = server.command("queue list -n shop -o json");
        command.env("POSTHOUSE_TOKEN", token.trim());
        command
    };
    assert!(list(&token).output().unwrap().status.success());
    let tokens: Value = serde_json::from_str(&server.run(&format!("token list -o json {boss}"))).unwrap();
    let id = tokens[0]["id"].as_str().unwrap();
    assert!(!token.trim().is_empty() && id != token.trim());
    server.run(&format!("token delete {id} {boss}"));
    failed(&mut list(&token), 5);
    assert!(!server.run(&format!("user show worker {boss}")).contains("pw\n"));
    server.run(&format!("user delete worker {boss}"));
    assert!(server.fails(4, &format!("namespace delete shop {boss}")).contains("--yes"));
    server.run(&format!("namespace delete shop --yes {boss}"));
}

#[test]
fn a_redrive_writes_only_where_its_user_may() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run_with("user create boss --admin --password-stdin", "secret\n");
    let boss = "--user boss --password secret";
    for queue in ["mine", "theirs"] {
        server.run(&format!("queue create {queue} --dead-letter dead {boss}"));
    }
    server.run(&format!("queue create alone --dead-letter far {boss}"));
    for queue in ["mine", "theirs", "alone"] {
        server.run(&format!("publish --queue {queue} {queue} {boss}"));
        server.run(&format!("consume {queue} --max 1 --exec 'exit 65' --reject-exit 65 {boss}"));
    }
    server.until(&format!("queue show dead -o json {boss}"), |said| said.contains("\"ready\": 2"));
    server.until(&format!("queue show far -o json {boss}"), |said| said.contains("\"ready\": 1"));
    server
        .run_with(&format!("user create worker --password-stdin --read 'dead' --read far --write mine {boss}"), "pw\n");
    let worker = "--user worker --password pw";
    // None of the queues that lead there is the worker's to write to.
    assert!(server.fails(5, &format!("dlq redrive far {worker}")).contains("alone"));
    // Here one is: what is not stays, and the redrive says why it ended.
    let said = server.command(&format!("dlq redrive dead {worker}")).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("theirs"), "{said}");
    let left = server.run(&format!("queue browse dead -o json {boss}"));
    assert!(left.contains("theirs"), "{left}");
    assert_eq!(server.run(&format!("consume theirs --wait 0s --body {boss}")), "");
    server.run(&format!("dlq redrive dead {boss}"));
    assert_eq!(server.run(&format!("consume theirs --wait 5s --max 1 --body {boss}")), "theirs\n");
}

#[test]
fn a_data_directory_is_checked_and_printed_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    server.run("publish --queue work needle");
    server.signal("TERM");
    server.wait();
    let run = |verb: &str, format: &str| {
        let output = posthouse().args(["log", verb, "-o", format]).arg(data.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(run("verify", "table").contains("no damage"));
    let report: Value = serde_json::from_str(&run("verify", "json")).unwrap();
    assert_eq!(report["faults"], json!([]));
    assert!(run("dump", "table").contains("needle"));
    assert!(run("dump", "json").lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    failed(posthouse().args(["log", "verify", "/nowhere/at/all"]), 3);
}

#[test]
fn help_completions_and_manual_are_made() {
    let output = |args: &[&str]| {
        let output = posthouse().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let help = output(&["--help"]);
    for word in [
        "serve",
        "topic",
        "queue",
        "binding",
        "group",
        "policy",
        "publish",
        "consume",
        "dlq",
        "request",
        "reply",
        "status",
        "Exit codes",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
    let serve = output(&["serve", "--help"]);
    assert!(serve.contains("--http <HOST:PORT>") && serve.contains("POSTHOUSE_TLS_CERT"), "{serve}");
    assert!(!serve.contains("--admin-password "), "a secret is no flag");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(output(&["completions", shell]).contains("redrive"), "{shell}");
    }
    assert!(output(&["man"]).contains(".TH posthouse 1"));
    let pages = tempfile::tempdir().unwrap();
    output(&["man", "--dir", pages.path().to_str().unwrap()]);
    assert!(pages.path().join("posthouse-queue-create.1").exists());
}
