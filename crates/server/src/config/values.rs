//! The kinds of values that settings have: how each is read and shown.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use net::ListenAddress;

/// A kind of value.
pub trait SettingValue: Sized {
    /// It is not shown.
    const SECRET: bool = false;
    /// Its flag may stand alone for `true`.
    const SWITCH: bool = false;
    /// Its values, if there are only a few.
    const CHOICES: &'static [&'static str] = &[];

    /// Reads it, as it stands in a flag, a variable or a file.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    fn read(given: &str) -> Result<Self, String>;

    /// Shows it as TOML; `None` if there is none.
    fn show(&self) -> Option<String>;
}

/// A string as TOML writes it.
fn quoted(text: &str) -> Option<String> {
    Some(toml::Value::String(text.to_owned()).to_string())
}

/// Where a listener listens, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    At(ListenAddress),
}

impl Listen {
    /// The HTTP API's own place: loopback, port 7070.
    pub(super) fn default_http() -> Self {
        "127.0.0.1:7070".parse().map_or(Self::Off, Self::At)
    }

    /// The gRPC API's own place: loopback, port 7071.
    pub(super) fn default_grpc() -> Self {
        "127.0.0.1:7071".parse().map_or(Self::Off, Self::At)
    }

    /// AMQP's own place: loopback, port 5672.
    pub(super) fn default_amqp() -> Self {
        "127.0.0.1:5672".parse().map_or(Self::Off, Self::At)
    }

    /// The management API's own place: loopback, port 15672.
    pub(super) fn default_management() -> Self {
        "127.0.0.1:15672".parse().map_or(Self::Off, Self::At)
    }
}

impl SettingValue for Listen {
    fn read(given: &str) -> Result<Self, String> {
        if given == "off" {
            return Ok(Self::Off);
        }
        given.parse().map(Self::At).map_err(|error: net::ListenAddressError| format!("{error}, or off"))
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Off => quoted("off"),
            Self::At(address) => quoted(&address.to_string()),
        }
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    pub(super) const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let parsed = given.parse::<bytesize::ByteSize>();
        parsed
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("{given:?} is not a size, such as 512KiB, 64MiB or 1GB"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl SettingValue for Size {
    fn read(given: &str) -> Result<Self, String> {
        given.parse()
    }
    fn show(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

impl SettingValue for Duration {
    fn read(given: &str) -> Result<Self, String> {
        read_duration(given)
    }
    fn show(&self) -> Option<String> {
        quoted(&show_duration(*self))
    }
}

/// Reads a time span such as `30s`, `1h30m` or `7d`. A day has 24 hours.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn read_duration(given: &str) -> Result<Duration, String> {
    let wrong = || format!("{given:?} is not a time span, such as 500ms, 30s, 5m, 1h30m or 7d");
    let span: jiff::Span = given.parse().map_err(|_| wrong())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).map_err(|_| format!("{given:?} is negative; a time span is not"))
}

fn show_duration(span: Duration) -> String {
    match jiff::SignedDuration::try_from(span) {
        Ok(span) => format!("{span:#}").replace(' ', ""),
        Err(_) => format!("{}s", span.as_secs()),
    }
}

impl SettingValue for bool {
    const SWITCH: bool = true;

    fn read(given: &str) -> Result<Self, String> {
        given.parse().map_err(|_| format!("{given:?} is neither true nor false"))
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for usize {
    fn read(given: &str) -> Result<Self, String> {
        match given.parse() {
            Ok(0) | Err(_) => Err(format!("{given:?} is not a count, such as 1000")),
            Ok(count) => Ok(count),
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for String {
    fn read(given: &str) -> Result<Self, String> {
        Ok(given.to_owned())
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl SettingValue for PathBuf {
    fn read(given: &str) -> Result<Self, String> {
        if given.is_empty() { Err("the path is empty".to_owned()) } else { Ok(Self::from(given)) }
    }
    fn show(&self) -> Option<String> {
        quoted(&self.to_string_lossy())
    }
}

/// Text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Holds a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SettingValue for Secret {
    const SECRET: bool = true;

    fn read(given: &str) -> Result<Self, String> {
        if given.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(given.to_owned())) }
    }
    fn show(&self) -> Option<String> {
        quoted("***")
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const SECRET: bool = T::SECRET;
    const SWITCH: bool = T::SWITCH;
    const CHOICES: &'static [&'static str] = T::CHOICES;

    fn read(given: &str) -> Result<Self, String> {
        T::read(given).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

macro_rules! choice {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl SettingValue for $name {
            const CHOICES: &'static [&'static str] = &[$($text),+];

            fn read(given: &str) -> Result<Self, String> {
                match given {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!("{given:?} is none of {}", Self::CHOICES.join(", "))),
                }
            }
            fn show(&self) -> Option<String> {
                quoted(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

choice! {
    /// What keeps the logs.
    Engine {
        /// Files in the data directory.
        Embedded = "embedded",
        /// Memory only.
        Memory = "memory",
    }
}

choice! {
    /// How the log is written.
    LogFormat {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        /// For people.
        Text = "text",
        /// For machines, an object a line.
        Json = "json",
    }
}
