//! The definition of a queue, as flags.

use std::collections::BTreeMap;

use api::{Breaker, DeadLetter, Durability, Overflow, QueueConfig, Retry, Webhook, WebhookFormat};
use clap::Args;

use crate::failure::Failure;
use crate::values::{millis, size, word};

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// For people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How long a consumer has for a message.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    lease: Option<u64>,
    /// Deliveries in all before a message is given up; 0 tries for ever.
    #[arg(long, value_name = "COUNT", help_heading = "Retries")]
    max_attempts: Option<u32>,
    /// Wait before the second attempt.
    #[arg(long, value_name = "TIME", value_parser = millis, help_heading = "Retries")]
    retry_initial: Option<u64>,
    /// Each further wait is so many times longer.
    #[arg(long, value_name = "NUMBER", help_heading = "Retries")]
    retry_factor: Option<f64>,
    /// No wait is longer.
    #[arg(long, value_name = "TIME", value_parser = millis, help_heading = "Retries")]
    retry_cap: Option<u64>,
    /// Whether a wait is a random part of itself, so that failed messages don't come back as a herd.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Retries")]
    retry_jitter: Option<bool>,
    /// An error that is not retried. May be given several times.
    #[arg(long, value_name = "ERROR", help_heading = "Retries")]
    non_retryable: Vec<String>,
    /// Where messages go that are given up: a queue, topic:NAME, or none.
    #[arg(long, value_name = "QUEUE", value_parser = dead_letter, help_heading = "Retries")]
    dead_letter: Option<DeadLetter>,
    /// Messages of one key one at a time, in order.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    keyed: Option<bool>,
    /// Priority levels, such as 10.
    #[arg(long, value_name = "COUNT")]
    priorities: Option<u16>,
    /// Messages live at most so long in the queue.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    ttl: Option<u64>,
    /// Every message waits so long first.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    delay: Option<u64>,
    /// Serve one consumer at a time; the next takes over when it goes.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    single_active: Option<bool>,
    /// Most waiting messages.
    #[arg(long, value_name = "COUNT")]
    max_messages: Option<u64>,
    /// Most waiting bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// What a full queue does: reject, drop-oldest or reject-dead-letter.
    #[arg(long, value_name = "KIND", value_parser = word::<Overflow>)]
    overflow: Option<Overflow>,
    /// Take a message of the same dedup id once in so long.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    dedup_window: Option<u64>,
    /// Pause a consumer that fails too often: RATIO,WINDOW,PAUSE such as 0.5,20,10s.
    #[arg(long, value_name = "BREAKER", value_parser = breaker)]
    breaker: Option<Breaker>,
    /// The queue goes by itself when unused for so long.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    expires: Option<u64>,
    /// The queue goes when its last standing consumer leaves.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    auto_delete: Option<bool>,
    /// In memory only, and gone with the server's process.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    volatile: Option<bool>,
    /// When a publish is confirmed: fsync, interval, os or memory.
    #[arg(long, value_name = "KIND", value_parser = word::<Durability>)]
    durability: Option<Durability>,
    /// Push messages to this address.
    #[arg(long, value_name = "URL", help_heading = "Webhook")]
    webhook: Option<String>,
    /// File with the key that requests are signed with.
    #[arg(long, value_name = "FILE", help_heading = "Webhook")]
    webhook_secret_file: Option<std::path::PathBuf>,
    /// Requests at a time.
    #[arg(long, value_name = "COUNT", help_heading = "Webhook")]
    webhook_concurrency: Option<u32>,
    /// Time for one request.
    #[arg(long, value_name = "TIME", value_parser = millis, help_heading = "Webhook")]
    webhook_timeout: Option<u64>,
    /// A header sent along, as NAME=VALUE. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, help_heading = "Webhook")]
    webhook_header: Vec<(String, String)>,
    /// How a message is written: native, cloudevents-binary or cloudevents-structured.
    #[arg(long, value_name = "KIND", value_parser = word::<WebhookFormat>, help_heading = "Webhook")]
    webhook_format: Option<WebhookFormat>,
}

fn pair(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or_else(|| format!("{given:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn dead_letter(given: &str) -> Result<DeadLetter, String> {
    Ok(match (given, given.strip_prefix("topic:")) {
        ("none", _) => DeadLetter::None,
        (_, Some(topic)) => DeadLetter::Topic { topic: topic.to_owned(), subject: None, or_drop: false },
        (queue, None) => DeadLetter::Queue(queue.to_owned()),
    })
}

fn breaker(given: &str) -> Result<Breaker, String> {
    let wrong = || format!("{given:?} is not RATIO,WINDOW,PAUSE, such as 0.5,20,10s");
    let [ratio, window, pause] = given.split(',').collect::<Vec<_>>().try_into().map_err(|_| wrong())?;
    Ok(Breaker {
        failure_ratio: ratio.trim().parse().map_err(|_| wrong())?,
        window: window.trim().parse().map_err(|_| wrong())?,
        pause_ms: millis(pause.trim())?,
    })
}

fn put<T>(to: &mut Option<T>, given: Option<T>) {
    if given.is_some() {
        *to = given;
    }
}

impl Flags {
    /// Puts what was given into a definition.
    ///
    /// # Errors
    /// If the secret's file cannot be read, or flags of a webhook are given without one.
    pub(crate) fn apply(self, config: &mut QueueConfig) -> Result<(), Failure> {
        self.apply_webhook(config)?;
        let retry = Retry {
            max_attempts: self.max_attempts,
            initial_ms: self.retry_initial,
            factor: self.retry_factor,
            cap_ms: self.retry_cap,
            jitter: self.retry_jitter,
            non_retryable: self.non_retryable,
        };
        if retry != Retry::default() {
            let to = config.retry.get_or_insert_with(Retry::default);
            put(&mut to.max_attempts, retry.max_attempts);
            put(&mut to.initial_ms, retry.initial_ms);
            put(&mut to.factor, retry.factor);
            put(&mut to.cap_ms, retry.cap_ms);
            put(&mut to.jitter, retry.jitter);
            if !retry.non_retryable.is_empty() {
                to.non_retryable = retry.non_retryable;
            }
        }
        put(&mut config.description, self.description);
        put(&mut config.lease_ms, self.lease);
        put(&mut config.dead_letter, self.dead_letter);
        put(&mut config.keyed, self.keyed);
        put(&mut config.priority_levels, self.priorities);
        put(&mut config.ttl_ms, self.ttl);
        put(&mut config.delay_ms, self.delay);
        put(&mut config.single_active, self.single_active);
        put(&mut config.max_messages, self.max_messages);
        put(&mut config.max_bytes, self.max_bytes);
        put(&mut config.overflow, self.overflow);
        put(&mut config.dedup_window_ms, self.dedup_window);
        put(&mut config.breaker, self.breaker);
        put(&mut config.expires_ms, self.expires);
        put(&mut config.durability, self.durability);
        config.auto_delete = self.auto_delete.unwrap_or(config.auto_delete);
        config.volatile = self.volatile.unwrap_or(config.volatile);
        Ok(())
    }

    fn apply_webhook(&self, config: &mut QueueConfig) -> Result<(), Failure> {
        if let Some(url) = &self.webhook {
            match &mut config.webhook {
                Some(webhook) => webhook.url.clone_from(url),
                None => {
                    config.webhook = Some(Webhook {
                        url: url.clone(),
                        secret: None,
                        concurrency: None,
                        timeout_ms: None,
                        headers: BTreeMap::new(),
                        format: None,
                    });
                }
            }
        }
        let given = self.webhook_secret_file.is_some()
            || self.webhook_concurrency.is_some()
            || self.webhook_timeout.is_some()
            || self.webhook_format.is_some()
            || !self.webhook_header.is_empty();
        let Some(webhook) = &mut config.webhook else {
            return if given { Err(Failure::usage("the --webhook-* flags need --webhook URL")) } else { Ok(()) };
        };
        if let Some(path) = &self.webhook_secret_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("--webhook-secret-file {}: {error}", path.display())))?;
            webhook.secret = Some(text.trim_end_matches(['\r', '\n']).to_owned());
        }
        put(&mut webhook.concurrency, self.webhook_concurrency);
        put(&mut webhook.timeout_ms, self.webhook_timeout);
        put(&mut webhook.format, self.webhook_format);
        webhook.headers.extend(self.webhook_header.iter().cloned());
        Ok(())
    }
}
