//! A PostgreSQL server for the tests: the one at `SDK_POSTGRES_URL`, or one of the machine's own packages, started for this process alone.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

/// How long a server may take to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Makes a cluster in a directory of its own, says where, and serves it on a socket there until the test process is gone, however that
/// ended: its end of the pipe is closed then. The server must not run as root.
const SCRIPT: &str = r#"
set -e
dir=$(mktemp -d /tmp/sdk-postgres.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$1/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"$1/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=300 -c fsync=off >>"$dir/log" 2>&1 &
server=$!
echo "$dir"
read -r _ || true
kill -INT $server
wait $server || true
"#;

struct Server {
    url: String,
    /// Kept open for as long as the server is to run.
    _until: Option<Mutex<(Child, ChildStdin)>>,
}

/// Where the server is.
pub(crate) fn url() -> &'static str {
    static SERVER: OnceLock<Server> = OnceLock::new();
    &SERVER
        .get_or_init(|| match std::env::var("SDK_POSTGRES_URL") {
            Ok(url) => Server { url, _until: None },
            Err(_) => start(),
        })
        .url
}

fn start() -> Server {
    let bin = binaries();
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--", "sh"]);
        command
    } else {
        Command::new("sh")
    };
    let mut child = command
        .args(["-c", SCRIPT, "sh"])
        .arg(&bin)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let stdin = child.stdin.take().expect("a pipe");
    let mut directory = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut directory).expect("the server's directory");
    let directory = directory.trim();
    assert!(!directory.is_empty(), "initdb in {} failed; see above", bin.display());
    let url = format!("postgres://postgres@localhost/postgres?host={directory}");
    Server { url, _until: Some(Mutex::new((child, stdin))) }
}

/// The newest server of Debian's packages.
fn binaries() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = found.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists()).max_by_key(version);
    newest
        .expect("no PostgreSQL: install Debian's package `postgresql`, or set SDK_POSTGRES_URL to a server where tests may make schemas")
        .join("bin")
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

/// A connection, once the server takes some.
pub(crate) async fn connect() -> PgConnection {
    let connecting = async {
        loop {
            match PgConnection::connect(url()).await {
                Ok(connection) => return connection,
                // It starts: refuses, or says that it is not ready.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    match tokio::time::timeout(START, connecting).await {
        Ok(connection) => connection,
        Err(_) => panic!("PostgreSQL at {} took no connection within {START:?}", url()),
    }
}
