//! The settings for people to read: `config print`, and docs/configuration.md.

use std::fmt::Write;

use super::settings::SETTINGS;
use super::{Config, Loaded, Setting};

impl Loaded {
    /// The whole configuration as TOML that could be loaded again, with where each value came from. Secrets are stars.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        // TOML wants what is in no table first.
        let (top, inner): (Vec<&Setting>, Vec<&Setting>) =
            SETTINGS.iter().partition(|setting| !setting.key.contains('.'));
        for setting in top.into_iter().chain(inner) {
            let (prefix, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if prefix != table {
                let _ = write!(out, "\n[{prefix}]\n");
                table = prefix;
            }
            let _ = match self.config.show(setting.key) {
                Some(value) => writeln!(out, "{name} = {value} # {}", self.origin(setting.key)),
                None => writeln!(out, "# {name} is not set"),
            };
        }
        out
    }
}

/// docs/configuration.md.
#[must_use]
pub fn page() -> String {
    let mut out = String::from(PREFACE);
    let defaults = Config::default();
    for setting in SETTINGS {
        let _ = write!(out, "\n### `{}`\n\n{}\n\n", setting.key, paragraph(setting));
        let default = defaults.show(setting.key).map_or("not set".to_owned(), |value| format!("`{value}`"));
        let flag = match (setting.flag(), setting.switch) {
            (None, _) => "none, since other users of the machine can read a command line".to_owned(),
            (Some(flag), true) => format!("`--{flag}`"),
            (Some(flag), false) => format!("`--{flag} {}`", setting.value_name),
        };
        let _ = writeln!(out, "- default: {default}\n- flag: {flag}\n- variable: `{}`", setting.variable());
        if !setting.choices.is_empty() {
            let _ = writeln!(out, "- values: `{}`", setting.choices.join("`, `"));
        }
    }
    out
}

/// A setting's text without the leading blanks of doc comments.
fn paragraph(setting: &Setting) -> String {
    setting.doc.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}

impl Setting {
    /// What it does, as one paragraph.
    #[must_use]
    pub fn help(&self) -> String {
        paragraph(self)
    }
}

const PREFACE: &str = "# Configuration

`posthouse serve` needs no configuration. Each setting below can be given as a flag, as an environment variable, or in a TOML
file that `--config FILE` (or `POSTHOUSE_CONFIG`) names. A flag goes over a variable, a variable over the file, and the file over
the default. A key or a `POSTHOUSE_` variable that is not known is an error that names the nearest one.

`posthouse config check` reads all of it and says what is wrong. `posthouse config print` shows every value and where it came
from; secrets are shown as stars.

In the file a dot in a key stands for a table:

```toml
data = \"/var/lib/posthouse\"
http = \"0.0.0.0:7070\"

[tls]
cert = \"/etc/posthouse/cert.pem\"
key = \"/etc/posthouse/key.pem\"
```

Time spans are written like `500ms`, `30s`, `5m`, `1h30m` or `7d`; sizes like `512KiB`, `64MiB` or `1GB`.

The commands that are clients of a running server read other variables: `POSTHOUSE_URL`, `POSTHOUSE_NAMESPACE`,
`POSTHOUSE_USER`, `POSTHOUSE_PASSWORD`, `POSTHOUSE_TOKEN`, `POSTHOUSE_CA` and `POSTHOUSE_OUTPUT`; see `posthouse help`.

<!-- Written from the table of settings; a test compares the two. To write it again: UPDATE_DOCS=1 cargo test -p server -->

## Settings
";
