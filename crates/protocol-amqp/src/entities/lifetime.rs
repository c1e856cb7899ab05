//! How long an exchange lives: whether it outlives the process, and whether it goes with its last binding.

use broker::definitions::TopicConfig;
use serde_json::json;

const TRANSIENT: &str = "ph-amqp-transient";
const AUTO_DELETE: &str = "ph-amqp-auto-delete";

/// Sets it.
pub(super) fn set(config: &mut TopicConfig, durable: bool, auto_delete: bool) {
    if !durable {
        config.arguments.insert(TRANSIENT.to_owned(), json!(true));
    }
    if auto_delete {
        config.arguments.insert(AUTO_DELETE.to_owned(), json!(true));
    }
}

/// Whether it outlives the process.
pub(crate) fn is_durable(config: &TopicConfig) -> bool {
    !config.arguments.contains_key(TRANSIENT)
}

/// Whether it goes with its last binding.
pub(crate) fn is_auto_delete(config: &TopicConfig) -> bool {
    config.arguments.contains_key(AUTO_DELETE)
}
