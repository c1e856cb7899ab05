//! Starting and stopping.

use crate::harness::{Server, failed, posthouse};

#[test]
fn the_ready_line_says_where_it_listens() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let expected =
        format!("posthouse {} ready: {} (data {})\n", env!("CARGO_PKG_VERSION"), server.url, data.path().display());
    assert_eq!(server.ready, expected);
    assert!(!server.url.ends_with(":0"), "{}", server.url);
    assert!(server.run("status").contains("ready"));
}

#[test]
fn sigterm_drains_and_what_was_confirmed_is_there_after_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    server.run("publish --queue work one");
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("stopped"), "{log}");

    let server = Server::start(data.path());
    assert_eq!(server.run("consume work --wait 0s --body"), "one\n");
    server.signal("INT");
    assert_eq!(server.wait().0, Some(0));
}

#[test]
fn a_kill_loses_nothing_that_was_confirmed() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    server.run_with("publish --queue work --lines -", "one\ntwo\nthree\n");
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    assert_eq!(server.run("consume work --wait 0s --body"), "one\ntwo\nthree\n");
}

#[test]
fn a_drain_ends_a_consumer_that_waits() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    let waiting =
        server.command("consume work").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn();
    let mut waiting = waiting.unwrap();
    // The receive is under way once its connection is counted.
    let connected =
        |page: &str| page.lines().any(|line| line.starts_with("posthouse_connections{") && !line.ends_with(" 0.0"));
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !connected(&metrics(&server)) {
        assert!(std::time::Instant::now() < deadline);
    }
    let begun = std::time::Instant::now();
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(begun.elapsed().as_secs() < 15, "a long poll of 30 s does not hold up the end");
    let _ = waiting.kill();
    let _ = waiting.wait();
}

/// The metrics page, by a request as simple as can be: its own connection is gone when it is read.
fn metrics(server: &Server) -> String {
    use std::io::{Read, Write};
    let address = server.url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    // The connection that asks is one of those that are open.
    page.replace("posthouse_connections{listener=\"http\"} 1.0", "posthouse_connections{listener=\"http\"} 0.0")
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_flag() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    let address = server.url.trim_start_matches("http://");
    let said = failed(posthouse().args(["serve", "--http", address, "--data"]).arg(other.path()), 1);
    assert!(said.contains(&format!("--http {address}")) && said.contains("in use"), "{said}");
}

#[test]
fn a_data_directory_has_one_process_and_the_error_names_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let said = failed(posthouse().args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(data.path()), 1);
    assert!(said.contains(&format!("process {}", server.pid())) && said.contains("--data"), "{said}");
}

#[test]
fn without_users_it_listens_on_this_machine_only() {
    let data = tempfile::tempdir().unwrap();
    let beyond = |flags: &[&str]| {
        let mut command = posthouse();
        command.args(["serve", "--http", "0.0.0.0:0", "--data"]).arg(data.path()).args(flags);
        command
    };
    let said = failed(&mut beyond(&[]), 1);
    assert!(said.contains("--insecure") && said.contains("no users"), "{said}");

    let server = Server::start_with(data.path(), &["--http", "0.0.0.0:0", "--insecure"], &[]);
    assert!(server.ready.contains("http://0.0.0.0:"));
    drop(server);

    // With a first user it may, and asks who is there.
    let first = [("POSTHOUSE_ADMIN_PASSWORD", "correct horse")];
    let server = Server::start_with(data.path(), &["--http", "0.0.0.0:0"], &first);
    let said = server.fails(5, "queue list");
    assert!(said.contains("--user"), "{said}");
    let mut command = server.command("queue create work");
    command.envs([("POSTHOUSE_USER", "admin"), ("POSTHOUSE_PASSWORD", "correct horse")]);
    assert!(command.output().unwrap().status.success());
    let mut command = server.command("queue list");
    command.envs([("POSTHOUSE_USER", "admin"), ("POSTHOUSE_PASSWORD", "wrong")]);
    failed(&mut command, 5);
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    assert!(!log.contains("correct horse"), "{log}");

    // The user is stored: the password is not needed again.
    Server::start_with(data.path(), &["--http", "0.0.0.0:0"], &[]);
}

#[test]
fn nobody_could_enter_without_users_and_without_anonymous_use() {
    let data = tempfile::tempdir().unwrap();
    let mut command = posthouse();
    command.args(["serve", "--http", "127.0.0.1:0", "--anonymous=false", "--data"]).arg(data.path());
    let said = failed(&mut command, 1);
    assert!(said.contains("POSTHOUSE_ADMIN_PASSWORD"), "{said}");
}

#[test]
fn tls_is_spoken_with_the_certificate_and_clients_trust_its_authority() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key, data) = (path("cert.pem"), path("key.pem"), directory.path().join("data"));
    let flags = ["--http", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&data, &flags, &[]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    server.run(&format!("queue list --ca {cert}"));
    let said = server.fails(7, "queue list");
    assert!(said.contains("--ca"), "{said}");
    let plain = server.url.replace("https", "http");
    failed(posthouse().args(["queue", "list", "--url", &plain]), 7);
}

#[test]
fn a_wrong_setting_names_its_place_and_the_nearest_right_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("posthouse.toml");
    std::fs::write(&file, "htpp = 'off'\n").unwrap();
    let said = failed(posthouse().arg("serve").arg("--config").arg(&file), 2);
    assert!(said.contains("\"htpp\"") && said.contains("\"http\""), "{said}");
    let said = failed(posthouse().args(["config", "check"]).env("POSTHOUSE_LOG_LEVELS", "info"), 2);
    assert!(said.contains("\"POSTHOUSE_LOG_LEVEL\""), "{said}");
    let said = failed(posthouse().args(["serve", "--log-level", "a=b=c"]), 1);
    assert!(said.contains("--log-level"), "{said}");

    std::fs::write(&file, "http = 'off'\n[admin]\npassword = 'hunter2'\n").unwrap();
    let printed = posthouse().args(["config", "print", "--engine", "memory", "--config"]).arg(&file).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("engine = \"memory\" # --engine") && printed.contains("http = \"off\" # "), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}
