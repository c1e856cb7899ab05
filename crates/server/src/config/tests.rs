use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// Loads from a file's text, variables and flags; an error as its text.
fn load(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let own =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("posthouse.toml");
    std::fs::write(&path, file).unwrap();
    let sources = Sources { file: Some(path.clone()), variables: own(variables), flags: own(flags) };
    sources.load().map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

fn refused(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, variables, flags).expect_err("it is refused")
}

#[test]
fn a_flag_goes_over_a_variable_over_the_file_over_the_default() {
    let file = "data = 'file'\nmax_connections = 5\n[log]\nlevel = 'debug'\n";
    let variables = [("POSTHOUSE_DATA", "variable"), ("POSTHOUSE_LOG_LEVEL", "warn"), ("HOME", "elsewhere")];
    let loaded = load(file, &variables, &[("data", "flag")]).unwrap();
    assert_eq!(loaded.config.data, PathBuf::from("flag"));
    assert_eq!(loaded.origin("data"), Origin::Flag("--data".to_owned()));
    assert_eq!(loaded.config.log_level, "warn");
    assert_eq!(loaded.origin("log.level"), Origin::Variable("POSTHOUSE_LOG_LEVEL".to_owned()));
    assert_eq!(loaded.config.max_connections, 5);
    assert!(matches!(loaded.origin("max_connections"), Origin::File(_)));
    assert_eq!(loaded.config.shutdown_limit, Duration::from_secs(20));
    assert_eq!(loaded.origin("shutdown_limit"), Origin::Default);
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    assert_eq!(refused("dta = 'x'", &[], &[]), r#"FILE: there is no setting "dta"; did you mean "data"?"#);
    assert_eq!(
        refused("[tls]\ncrt = 'x'", &[], &[]),
        r#"FILE: there is no setting "tls.crt"; did you mean "tls.cert"?"#
    );
    assert_eq!(
        refused("[tsl]\ncert = 'x'", &[], &[]),
        r#"FILE: there is no setting "tsl.cert"; did you mean "tls.cert"?"#
    );
    assert_eq!(refused("level = 'info'", &[], &[]), r#"FILE: there is no setting "level"; did you mean "log.level"?"#);
    assert_eq!(refused("quite-another-thing = 1", &[], &[]), r#"FILE: there is no setting "quite-another-thing""#);
    assert_eq!(
        refused("", &[("POSTHOUSE_HTPP", "x")], &[]),
        r#"environment: there is no setting "POSTHOUSE_HTPP"; did you mean "POSTHOUSE_HTTP"?"#
    );
    assert_eq!(
        refused("", &[("POSTHOUSE_URI", "x")], &[]),
        r#"environment: there is no setting "POSTHOUSE_URI"; did you mean "POSTHOUSE_URL"?"#
    );
}

#[test]
fn variables_of_clients_and_of_service_links_are_nobodys_mistake() {
    for name in ["POSTHOUSE_URL", "POSTHOUSE_TOKEN", "POSTHOUSE_PORT_7070_TCP_ADDR", "POSTHOUSE_SERVICE_HOST"] {
        load("", &[(name, "tcp://10.0.0.1:7070")], &[]).unwrap();
    }
}

#[test]
fn wrong_values_name_their_place() {
    assert_eq!(
        refused("", &[], &[("http", "7070")]),
        r#"--http: "7070" is not HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070, or off"#
    );
    assert_eq!(
        refused("", &[("POSTHOUSE_SHUTDOWN_LIMIT", "soon")], &[]),
        r#"POSTHOUSE_SHUTDOWN_LIMIT: "soon" is not a time span, such as 500ms, 30s, 5m, 1h30m or 7d"#
    );
    assert_eq!(
        refused("[storage]\nwal_file = '64 apples'", &[], &[]),
        r#"FILE: storage.wal_file: "64 apples" is not a size, such as 512KiB, 64MiB or 1GB"#
    );
    assert_eq!(refused("insecure = 'maybe'", &[], &[]), r#"FILE: insecure: "maybe" is neither true nor false"#);
    assert_eq!(refused("engine = 'raft'", &[], &[]), r#"FILE: engine: "raft" is none of embedded, memory"#);
    assert_eq!(
        refused("data = []", &[], &[]),
        "FILE: data: its value is of type array; give a string, a number or a truth value"
    );
    assert!(refused("data = ", &[], &[]).starts_with("FILE: line 1: "));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    assert!(refused("[tls]\ncert = 'x'", &[], &[]).contains("tls.key"));
    assert!(refused("[tls]\nclient_ca = 'x'", &[], &[]).contains("tls.cert"));
    assert!(refused("[tls]\nclient_required = true", &[], &[]).contains("tls.client_ca"));
    assert!(refused("[admin]\npassword = 'a'\npassword_file = 'b'", &[], &[]).contains("which is meant"));
}

#[test]
fn secrets_are_shown_nowhere() {
    let loaded = load("", &[("POSTHOUSE_ADMIN_PASSWORD", "hunter2")], &[]).unwrap();
    assert_eq!(loaded.config.admin_password.as_ref().map(Secret::reveal), Some("hunter2"));
    assert!(!loaded.to_toml().contains("hunter2"), "{}", loaded.to_toml());
    assert!(!format!("{loaded:?}").contains("hunter2"));
    // A broken line is not quoted: it may hold a secret.
    assert!(!refused("[admin]\npassword = hunter2", &[], &[]).contains("hunter2"));
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let loaded = load("data = 'some \"place\"'", &[("POSTHOUSE_HTTP", "off")], &[("storage.reserve", "1GiB")]).unwrap();
    let again = load(&loaded.to_toml(), &[], &[]).unwrap();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn names_of_flags_and_variables_are_told_apart() {
    let mut names: Vec<String> =
        SETTINGS.iter().map(Setting::variable).chain(SETTINGS.iter().filter_map(Setting::flag)).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for setting in SETTINGS {
        assert!(!setting.help().is_empty());
    }
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/configuration.md is not what the settings say; UPDATE_DOCS=1 cargo test -p server writes it"
    );
}
