//! From file, variables and flags to one configuration. A flag goes over a variable, a variable over the file, and the file
//! over the default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::settings::SETTINGS;
use super::{Config, ConfigError, Setting};

/// Variables that are not settings of the server but of the command line's clients, or say where the file is.
const OTHER_VARIABLES: &[&str] = &[
    "POSTHOUSE_CONFIG",
    "POSTHOUSE_URL",
    "POSTHOUSE_NAMESPACE",
    "POSTHOUSE_USER",
    "POSTHOUSE_PASSWORD",
    "POSTHOUSE_TOKEN",
    "POSTHOUSE_CA",
    "POSTHOUSE_OUTPUT",
];

/// Variables that Kubernetes sets in every container next to a service that is called `posthouse`. They are nobody's mistake.
const SERVICE_LINKS: &[&str] = &["POSTHOUSE_PORT", "POSTHOUSE_SERVICE_HOST", "POSTHOUSE_SERVICE_PORT"];

/// Keys that look at most so different from what was written, in edits a third of its length, are offered instead.
const NEAREST_SHARE: usize = 3;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment; names that do not begin with `POSTHOUSE_` are passed over.
    pub variables: Vec<(String, String)>,
    /// Flags that were given, as key and value.
    pub flags: Vec<(String, String)>,
}

/// Where a setting's value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// The file.
    File(PathBuf),
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where they came from, by key; a key that is missing has its default.
    pub origins: BTreeMap<&'static str, Origin>,
}

impl Sources {
    /// The process's own environment, with these flags and this file.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
            .collect();
        Self { file, variables, flags }
    }

    /// Puts it all together.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loaded = Loaded::default();
        if let Some(path) = &self.file {
            for (key, value) in read_file(path)? {
                let place = format!("{}: {key}", path.display());
                let setting = Setting::of(&key).ok_or_else(|| unknown_key(path, &key))?;
                let value = value.map_err(|why| ConfigError::Invalid { place: place.clone(), why })?;
                loaded.set(setting, &value, place, Origin::File(path.clone()))?;
            }
        }
        for (name, value) in &self.variables {
            if !name.starts_with("POSTHOUSE_") || is_of_others(name) {
                continue;
            }
            let setting = SETTINGS.iter().find(|setting| setting.variable() == *name);
            let setting = setting.ok_or_else(|| unknown_variable(name))?;
            loaded.set(setting, value, name.clone(), Origin::Variable(name.clone()))?;
        }
        for (key, value) in &self.flags {
            let setting = Setting::of(key).ok_or_else(|| ConfigError::Unknown {
                place: "command line".to_owned(),
                name: key.clone(),
                nearest: None,
            })?;
            let flag = format!("--{}", setting.flag().unwrap_or_default());
            loaded.set(setting, value, flag.clone(), Origin::Flag(flag))?;
        }
        check(&loaded.config)?;
        Ok(loaded)
    }
}

impl Loaded {
    fn set(
        &mut self,
        setting: &'static Setting,
        value: &str,
        place: String,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        self.config.set(setting.key, value).map_err(|why| ConfigError::Invalid { place, why })?;
        self.origins.insert(setting.key, origin);
        Ok(())
    }

    /// Where a setting's value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }
}

fn is_of_others(name: &str) -> bool {
    OTHER_VARIABLES.contains(&name)
        || SERVICE_LINKS.contains(&name)
        || name.starts_with("POSTHOUSE_PORT_")
        || name.starts_with("POSTHOUSE_SERVICE_PORT_")
}

/// A value as text, or what is wrong with it.
type TextValue = Result<String, String>;

fn read_file(path: &PathBuf) -> Result<Vec<(String, TextValue)>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File { path: path.clone(), error })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The parser's own text quotes the line, and a line may hold a secret.
        let line =
            error.span().map_or(0, |span| text.get(..span.start).map_or(0, |before| before.matches('\n').count() + 1));
        ConfigError::Syntax { path: path.clone(), why: format!("line {line}: {}", error.message()) }
    })?;
    let mut found = Vec::new();
    flatten("", table, &mut found);
    Ok(found)
}

fn flatten(prefix: &str, table: toml::Table, found: &mut Vec<(String, TextValue)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) if Setting::of(&key).is_none() => flatten(&key, inner, found),
            toml::Value::String(text) => found.push((key, Ok(text))),
            toml::Value::Integer(number) => found.push((key, Ok(number.to_string()))),
            toml::Value::Boolean(truth) => found.push((key, Ok(truth.to_string()))),
            other => {
                let why =
                    format!("its value is of type {}; give a string, a number or a truth value", other.type_str());
                found.push((key, Err(why)));
            }
        }
    }
}

fn unknown_key(path: &std::path::Path, key: &str) -> ConfigError {
    let nearest = nearest(key, SETTINGS.iter().map(|setting| setting.key.to_owned()));
    ConfigError::Unknown { place: path.display().to_string(), name: key.to_owned(), nearest }
}

fn unknown_variable(name: &str) -> ConfigError {
    let others = OTHER_VARIABLES.iter().map(|name| (*name).to_owned());
    let nearest = nearest(name, SETTINGS.iter().map(Setting::variable).chain(others));
    ConfigError::Unknown { place: "environment".to_owned(), name: name.to_owned(), nearest }
}

/// The candidate that looks most like `given`, if one does: by edits, or else one that ends with it (a key without its table).
fn nearest(given: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let folded = given.to_lowercase();
    let measured = candidates.map(|candidate| {
        let lower = candidate.to_lowercase();
        let part = lower.split('.').next_back() == Some(folded.as_str());
        let edits = if part { 1 } else { strsim::damerau_levenshtein(&lower, &folded) };
        (edits, candidate)
    });
    let (edits, candidate) = measured.min()?;
    (edits <= given.len().div_ceil(NEAREST_SHARE)).then_some(candidate)
}

/// What no single setting can know.
fn check(config: &Config) -> Result<(), ConfigError> {
    let conflict = |why: &str| Err(ConfigError::Conflict(why.to_owned()));
    if config.tls_cert.is_some() != config.tls_key.is_some() {
        return conflict("tls.cert and tls.key go together: one is set and the other is not");
    }
    if config.tls_client_ca.is_some() && config.tls_cert.is_none() {
        return conflict("tls.client_ca needs TLS: set tls.cert and tls.key too");
    }
    if config.tls_client_required && config.tls_client_ca.is_none() {
        return conflict("tls.client_required needs tls.client_ca, the authorities of the certificates");
    }
    if config.admin_password.is_some() && config.admin_password_file.is_some() {
        return conflict("admin.password and admin.password_file are both set; which is meant?");
    }
    Ok(())
}
