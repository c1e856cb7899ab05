//! Starting and stopping.

use std::io::Write as _;
use std::process::Stdio;

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
fn the_grpc_listener_is_named_beside_the_http_one() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start_with(data.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    let address = server.ready.split_whitespace().find_map(|word| word.strip_prefix("grpc://")).unwrap();
    assert!(!address.ends_with(":0"), "{}", server.ready);
    let mut second = posthouse();
    let said = failed(second.args(["serve", "--http", "off", "--grpc", address, "--data"]).arg(other.path()), 1);
    assert!(said.contains(&format!("--grpc {address}")) && said.contains("in use"), "{said}");
    let mut beyond = posthouse();
    let said = failed(beyond.args(["serve", "--http", "off", "--grpc", "0.0.0.0:0", "--data"]).arg(other.path()), 1);
    assert!(said.contains("--grpc") && said.contains("--insecure"), "{said}");
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
fn the_first_user_and_a_forgotten_password_are_set_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let run = |line: &str, password: &str| {
        let mut command = posthouse();
        command.args(line.split(' ')).args(["--password-stdin", "--data"]).arg(data.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        (output.status.code(), said)
    };
    let (code, said) = run("user create boss", "secret\n");
    assert!(code == Some(1) && said.contains("administrator"), "the first one must be able to make others: {said}");
    assert_eq!(run("user create boss --admin", "secret\n"), (Some(0), "user \"boss\" created\n".to_owned()));
    let (code, said) = run("user create boss --admin", "other\n");
    assert!(code == Some(1) && said.contains("exists"), "{said}");

    // It may listen beyond this machine now, and the user is let in.
    let server = Server::start_with(data.path(), &["--http", "0.0.0.0:0"], &[]);
    server.fails(5, "queue list");
    server.run("queue create work --user boss --password secret");
    let (code, said) = run("user create second", "x\n");
    assert!(code == Some(1) && said.contains(&format!("process {}", server.pid())), "{said}");
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));

    assert_eq!(run("user update boss", "fresh\n"), (Some(0), "user \"boss\" updated\n".to_owned()));
    assert_eq!(run("user create worker -n default --read work", "pw\n").0, Some(0));
    let server = Server::start_with(data.path(), &["--http", "0.0.0.0:0"], &[]);
    server.fails(5, "queue list --user boss --password secret");
    server.run("publish --queue work x --user boss --password fresh");
    assert_eq!(server.run("consume work --wait 0s --body --user worker --password pw"), "x\n");
    server.fails(5, "publish --queue work x --user worker --password pw");
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
fn sighup_has_new_certificates_read_and_the_server_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // All files are of one length and one time: what looks for changed files sees none, so that only the signal can tell.
    let time = std::time::SystemTime::now();
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), format!("{text:\n<4096}")).unwrap();
        std::fs::File::options().write(true).open(path(name)).unwrap().set_modified(time).unwrap();
    };
    let fresh = |authority: &str| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        write("cert.pem", &made.cert.pem());
        write("key.pem", &made.signing_key.serialize_pem());
        write(authority, &made.cert.pem());
    };
    fresh("old.pem");
    let (cert, key, data) = (path("cert.pem"), path("key.pem"), directory.path().join("data"));
    let flags = ["--http", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&data, &flags, &[]);
    let (old, new) = (path("old.pem"), path("new.pem"));
    server.run(&format!("queue create work --ca {old}"));
    fresh("new.pem");
    server.run(&format!("queue list --ca {old}"));
    server.signal("HUP");
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !server.command(&format!("queue show work --ca {new}")).output().unwrap().status.success() {
        assert!(std::time::Instant::now() < deadline, "the new certificate is not served");
    }
    server.fails(7, &format!("queue list --ca {old}"));
    // Certificates that cannot be used leave those in force.
    write("cert.pem", "nonsense");
    server.signal("HUP");
    server.run(&format!("queue list --ca {new}"));
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("certificates reloaded"), "{log}");
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
