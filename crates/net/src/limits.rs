//! Every bound on connections, by name.

use std::time::Duration;

/// Open connections of one listener, unless it is configured otherwise. One more is closed at once.
pub const DEFAULT_MAX_CONNECTIONS: usize = 10_000;
/// How long a TLS handshake may take before the connection is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the listener waits after an accept failed for want of file descriptors or memory, so that it does not spin.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often certificate files are looked at for a change. SIGHUP looks at once.
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(2);
/// How often a listener that is full, or cannot accept, says so in the log.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);
