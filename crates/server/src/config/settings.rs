//! The table of settings.

use std::path::PathBuf;
use std::time::Duration;

use super::values::{Engine, Listen, LogFormat, Secret, SettingValue, Size};

/// What is known of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the TOML file; a dot stands for a table.
    pub key: &'static str,
    /// What its value is called in help, such as `FILE`.
    pub value_name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// It is shown nowhere, and is no flag: other users of the machine can read a command line.
    pub secret: bool,
    /// Its flag may stand without a value, and means `true` then.
    pub switch: bool,
    /// Its values, if there are only a few.
    pub choices: &'static [&'static str],
}

impl Setting {
    /// The setting of this key.
    #[must_use]
    pub fn of(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Its flag, without the dashes; `None` of a secret.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (!self.secret).then(|| self.key.replace(['.', '_'], "-"))
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("POSTHOUSE_{}", self.key.replace('.', "_").to_uppercase())
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:literal $value_name:literal $field:ident: $type:ty = $default:expr;)+) => {
        /// How the server runs.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// Every setting, in the order in which they are shown.
        pub const SETTINGS: &[Setting] = &[
            $(Setting {
                key: $key,
                value_name: $value_name,
                doc: concat!($($doc, "\n"),+),
                secret: <$type as SettingValue>::SECRET,
                switch: <$type as SettingValue>::SWITCH,
                choices: <$type as SettingValue>::CHOICES,
            },)+
        ];

        impl Config {
            /// Sets a setting by its key, from text.
            ///
            /// # Errors
            /// What is wrong with the value, and what would be right.
            pub fn set(&mut self, key: &str, given: &str) -> Result<(), String> {
                match key {
                    $($key => self.$field = SettingValue::read(given)?,)+
                    _ => return Err(format!("there is no setting {key:?}")),
                }
                Ok(())
            }

            /// A setting's value as TOML writes it; `None` if it is not set. A secret is shown as stars.
            #[must_use]
            pub fn show(&self, key: &str) -> Option<String> {
                match key {
                    $($key => SettingValue::show(&self.$field),)+
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// Directory of everything that is stored. It is made if it is missing; one process at a time may use it.
    "data" "DIR" data: PathBuf = PathBuf::from("./data");
    /// What keeps the logs: `embedded` writes them to the data directory, `memory` forgets them when the process ends.
    "engine" "ENGINE" engine: Engine = Engine::Embedded;
    /// Where the HTTP API listens, or `off`. Port 0 lets the system choose; the line on standard output says which.
    "http" "HOST:PORT" http: Listen = Listen::default_http();
    /// Where the gRPC API listens, or `off`. Port 0 lets the system choose; the line on standard output says which.
    "grpc" "HOST:PORT" grpc: Listen = Listen::default_grpc();
    /// Where AMQP 0-9-1 listens, or `off`. Port 0 lets the system choose; the line on standard output says which. Without TLS, whatever `tls` says.
    "amqp" "HOST:PORT" amqp: Listen = Listen::default_amqp();
    /// Where AMQP 0-9-1 over TLS listens, or `off`, which it is unless it is asked for: RabbitMQ's own port is 5671. Needs `tls.cert` and `tls.key`.
    "amqps" "HOST:PORT" amqps: Listen = Listen::Off;
    /// Where RabbitMQ's management HTTP API listens, for `rabbitmqadmin`, autoscalers and client libraries, or `off`. Port 0 lets the system choose;
    /// the line on standard output says which.
    "management" "HOST:PORT" management: Listen = Listen::default_management();
    /// Open connections of a listener; one more is closed at once.
    "max_connections" "COUNT" max_connections: usize = net::limits::DEFAULT_MAX_CONNECTIONS;
    /// Listen beyond this machine although there are no users, so that everybody who reaches the port may do everything.
    "insecure" "BOOL" insecure: bool = false;
    /// While there are no users, callers without credentials may do everything. Only ever on loopback, unless `insecure` is set.
    "anonymous" "BOOL" anonymous: bool = true;
    /// The server's certificate and its chain, as PEM. With it listeners speak TLS only. Read again when it changes, and on SIGHUP.
    "tls.cert" "FILE" tls_cert: Option<PathBuf> = None;
    /// The certificate's private key, as PEM.
    "tls.key" "FILE" tls_key: Option<PathBuf> = None;
    /// Authorities of client certificates, as PEM. A client that shows a certificate of theirs is the user of its common name.
    "tls.client_ca" "FILE" tls_client_ca: Option<PathBuf> = None;
    /// Refuse clients that show no certificate.
    "tls.client_required" "BOOL" tls_client_required: bool = false;
    /// Password of the user `admin`, which is made with it at a start without users. For containers; better given as a file.
    "admin.password" "PASSWORD" admin_password: Option<Secret> = None;
    /// File with the password of the user `admin`, which is made with it at a start without users. A line end after it does not count.
    "admin.password_file" "FILE" admin_password_file: Option<PathBuf> = None;
    /// How long a successful password check is remembered, so that its hash is not paid on every request.
    "auth_cache" "TIME" auth_cache: Duration = Duration::from_secs(60);
    /// Bytes of messages on their way through the broker above which publishers are held back.
    "memory_high" "SIZE" memory_high: Size = Size::mebibytes(512);
    /// Time that connections have to end after SIGTERM, before they are closed.
    "shutdown_limit" "TIME" shutdown_limit: Duration = Duration::from_secs(20);
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a list of `target=level`.
    "log.level" "FILTER" log_level: String = "info".to_owned();
    /// How it is logged, on standard error: `text`, `json`, or `auto`, which is text on a terminal and JSON otherwise.
    "log.format" "FORMAT" log_format: LogFormat = LogFormat::Auto;
    /// Queues and topics that `/metrics` shows one by one: those with the most messages. The rest is one sum.
    "metrics.max_entities" "COUNT" metrics_max_entities: usize = 1000;
    /// Webhooks may call private, loopback and link-local addresses. Whoever may configure a queue can reach what the server can.
    "webhook.allow_private" "BOOL" webhook_allow_private: bool = false;
    /// Within which time a commit of durability `interval` is synced.
    "storage.interval" "TIME" storage_interval: Duration = Duration::from_millis(10);
    /// Size of one write-ahead file.
    "storage.wal_file" "SIZE" storage_wal_file: Size = Size::mebibytes(64);
    /// Write-ahead files in use above which the oldest is moved to segments.
    "storage.wal_files" "COUNT" storage_wal_files: usize = 4;
    /// Bytes of commits that wait to be written above which more are refused.
    "storage.max_waiting" "SIZE" storage_max_waiting: Size = Size::mebibytes(256);
    /// Newest data kept in memory for readers at the end of logs.
    "storage.recent" "SIZE" storage_recent: Size = Size::mebibytes(16);
    /// Free space below which publishes are refused, so that a full disk can be drained: failures pass down to half of it, acknowledgements to its end. If not set: 64 MiB, or 1 % of a small disk.
    "storage.reserve" "SIZE" storage_reserve: Option<Size> = None;
}
