//! The pages about the SDK: every example runs to its end, pages show code of examples that run, and the table of capabilities is what transports declare.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use embedded::Embedded;
use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::posthouse::{Posthouse, PosthouseOptions};
use sdk::transport::{Capabilities, Settlement, Transport};

/// Each page below docs/sdk, and the examples that it shows.
const PAGES: [(&str, &[&str]); 18] = [
    ("circuit-breaker", &["circuit_breaker"]),
    ("claim-check", &["claim_check"]),
    ("contracts", &["contracts"]),
    ("dead-letters-and-redrive", &["dead_letters"]),
    ("discovery-and-health", &["discovery_and_health"]),
    ("event-sourcing", &["event_sourcing"]),
    ("idempotent-consumer", &["idempotent_consumer"]),
    ("outbox", &["outbox"]),
    ("per-key-order", &["per_key_order"]),
    ("publish-subscribe", &["publish_subscribe"]),
    ("request-reply", &["request_reply"]),
    ("retries", &["retries"]),
    ("saga", &["saga", "choreography"]),
    ("scheduling", &["scheduling"]),
    ("streams-and-replay", &["streams_and_replay"]),
    ("telemetry", &["telemetry"]),
    ("testing", &["testing"]),
    ("work-queue", &["work_queue"]),
];

/// Longest that an example may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where a page leaves lines of its example out.
const ELISION: &str = "// ...";
/// Rewrites the table instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";
const TABLE_BEGINS: &str = "<!-- capabilities: made by a test, see `documents.rs` -->\n";
const TABLE_ENDS: &str = "<!-- end of capabilities -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn examples() -> impl Iterator<Item = &'static str> {
    PAGES.into_iter().flat_map(|(_, examples)| examples.iter().copied())
}

/// Where cargo puts examples, seen from where it puts tests.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.join("examples").join(example).with_extension(std::env::consts::EXE_EXTENSION)
}

#[tokio::test]
async fn every_example_runs_to_its_end() {
    for example in examples() {
        let path = built(example);
        assert!(
            path.exists(),
            "{path:?} is not there: `cargo test -p embedded` builds the examples, `--test it` does not"
        );
        let run = tokio::process::Command::new(path).stdin(Stdio::null()).kill_on_drop(true).output();
        let run =
            tokio::time::timeout(PATIENCE, run).await.unwrap_or_else(|_| panic!("{example} does not end")).unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let complained = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{example}: {}\n{said}\n{complained}", run.status);
        let wanted = last_line(example);
        assert_eq!(said.lines().last(), Some(&*wanted), "{example} said:\n{said}\n{complained}");
    }
}

/// The last line that an example prints, as its page says.
fn last_line(example: &str) -> String {
    let (page, _) = PAGES.into_iter().find(|(_, examples)| examples.contains(&example)).unwrap();
    let text = std::fs::read_to_string(root().join(format!("docs/sdk/{page}.md"))).unwrap();
    let command = format!("$ cargo run -p embedded --example {example}\n");
    let (_, shown) = text.split_once(&command).unwrap_or_else(|| panic!("{page}.md does not show {command:?}"));
    let (shown, _) = shown.split_once("```").unwrap();
    shown.lines().last().unwrap().to_owned()
}

#[test]
fn there_is_an_example_for_each_page_and_a_page_for_each_example() {
    let names = |folder: &str, extension: &str| -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            names.push(name.strip_suffix(extension).unwrap_or_else(|| panic!("{folder}/{name}")).to_owned());
        }
        names.sort();
        names
    };
    assert_eq!(names("docs/sdk", ".md"), PAGES.map(|(page, _)| page));
    let mut known: Vec<&str> = examples().collect();
    known.sort_unstable();
    assert_eq!(names("crates/embedded/examples", ".rs"), known);
    let guide = std::fs::read_to_string(root().join("docs/sdk.md")).unwrap();
    for (page, _) in PAGES {
        assert!(guide.contains(&format!("(sdk/{page}.md)")), "docs/sdk.md has no link to {page}");
    }
}

#[test]
fn pages_show_lines_of_examples_that_run() {
    for (page, examples) in PAGES {
        let text = std::fs::read_to_string(root().join(format!("docs/sdk/{page}.md"))).unwrap();
        let mut code = String::new();
        for example in examples {
            code += &std::fs::read_to_string(root().join(format!("crates/embedded/examples/{example}.rs"))).unwrap();
        }
        let code = unindented(&code);
        let blocks = blocks(&text);
        assert!(!blocks.is_empty(), "{page}.md shows no code");
        for block in blocks {
            for part in block.split(ELISION).map(unindented).filter(|part| !part.is_empty()) {
                assert!(code.contains(&part), "{page}.md shows what no example has:\n{part}");
            }
        }
    }
}

/// The blocks of Rust on a page.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Lines without their indentation, so that a page may show the middle of a function.
fn unindented(code: &str) -> String {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    lines.join("\n").trim().to_owned()
}

#[tokio::test]
async fn the_table_of_capabilities_is_what_transports_declare() {
    let broker = Embedded::builder().listen_grpc().listen_amqp().start().await.unwrap();
    let posthouse = Posthouse::connect(&broker.grpc_url().unwrap(), PosthouseOptions::default()).await.unwrap();
    let amqp = Amqp::connect(&broker.amqp_url().unwrap(), AmqpOptions::default()).await.unwrap();
    let embedded = broker.transport();
    let all =
        [("embedded", embedded.capabilities()), ("posthouse", posthouse.capabilities()), ("amqp", amqp.capabilities())];
    let table = table(&all);

    let path = root().join("docs/sdk.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(TABLE_BEGINS).expect("docs/sdk.md says where the table begins");
    let (shown, after) = rest.split_once(TABLE_ENDS).expect("docs/sdk.md says where the table ends");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, format!("{before}{TABLE_BEGINS}{table}{TABLE_ENDS}{after}")).unwrap();
        return;
    }
    assert_eq!(shown, table, "docs/sdk.md is out of date: run this test with {UPDATE}=1");
}

/// What each capability is, for people.
fn meanings() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("retry", "a failed message comes again after a growing wait, which a restart does not forget"),
        ("dead_letter", "a message that is given up is kept apart, with the reason"),
        ("delay", "a message that is published now and delivered later"),
        ("keyed", "messages of one key one at a time, in order; a failing one holds back its key and nothing else"),
        ("replay", "topics whose log can be read again"),
        ("key_index", "records of one key can be read without the others"),
        ("expected_version", "a publish that happens only if its key's version is the expected one"),
        ("ack_and_publish", "what a handler returns is published together with its acknowledgement, all or none"),
        ("dedup", "a queue takes a message of the same dedup id once"),
        ("live", "listeners in memory: requests and answers, discovery"),
        ("priority", "messages of higher priority first"),
        ("browse", "looking at a queue's messages without taking them"),
    ])
}

fn table(transports: &[(&str, &Capabilities)]) -> String {
    let meanings = meanings();
    let cells = |of: &dyn Fn(&Capabilities) -> String| -> String {
        transports.iter().map(|(_, capabilities)| format!(" {} |", of(capabilities))).collect()
    };
    let mut table = "| capability | what it is |".to_owned();
    for (name, _) in transports {
        let _ = write!(table, " `{name}` |");
    }
    table += &format!("\n|---|---|{}\n", "---|".repeat(transports.len()));
    let first = transports[0].1.rows();
    for (number, (name, _)) in first.into_iter().enumerate() {
        let meaning = meanings.get(name).unwrap_or_else(|| panic!("say what {name} is"));
        let supports = cells(&|capabilities| capabilities.rows()[number].1.to_string());
        let _ = writeln!(table, "| `{name}` | {meaning} |{supports}");
    }
    let delays = cells(&|capabilities| match capabilities.max_delay {
        Some(longest) => format!("{} days", longest.as_secs() / (24 * 3600)),
        None => "no bound".to_owned(),
    });
    let _ = writeln!(table, "| `max_delay` | the longest such delay |{delays}");
    let settlements = cells(&|capabilities| match capabilities.settlement {
        Settlement::PerMessage => "each message".to_owned(),
        Settlement::Cumulative => "up to an offset".to_owned(),
    });
    let _ = writeln!(table, "| `settlement` | what is acknowledged |{settlements}");
    let bodies = cells(&|capabilities| format!("{} MiB", capabilities.max_body_bytes >> 20));
    let _ = writeln!(
        table,
        "| `max_body_bytes` | the largest body, before anything that the broker's operator configured |{bodies}"
    );
    table
}
