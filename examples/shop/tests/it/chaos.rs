//! A short run of `shop chaos`.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long it may take in all, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test]
async fn the_books_balance_after_a_few_kills() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command
        .args(["chaos", "--duration", "15s", "--seed", "5", "--rate", "4", "--kill-every", "2s", "--data"])
        .arg(data.path())
        // Everything is built already.
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await.expect("it ends in time").unwrap();
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}\n{complained}");
    assert!(said.contains("the books balance: seed 5"), "{said}");
    assert!(!said.contains(" 0 kills"), "something was killed: {said}");
}
