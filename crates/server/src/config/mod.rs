//! The server's settings.
//!
//! Each is defined once, in [`settings`]: from there come the TOML keys, the `POSTHOUSE_*` variables, the flags of `serve`,
//! `config print` and the page docs/configuration.md.

mod document;
mod error;
mod load;
mod settings;
mod values;

#[cfg(test)]
mod tests;

pub use document::page;
pub use error::ConfigError;
pub use load::{Loaded, Origin, Sources};
pub use settings::{Config, SETTINGS, Setting};
pub use values::{Engine, Listen, LogFormat, Secret, SettingValue, Size, read_duration};
