//! `request`.

use std::time::Duration;

use api::Message;
use clap::Args;

use super::messages;
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::span;

/// Ask whoever answers on a subject, and print the answer's body.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  posthouse request stock.check '{\"sku\": 7}' --timeout 2s\n\nIf nobody could answer, that is said at once (exit code 6)."
)]
pub(crate) struct Request {
    /// The subject.
    subject: String,
    /// The request's body; empty if not given.
    #[arg(default_value = "")]
    body: String,
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "5s")]
    timeout: Duration,
    #[command(flatten)]
    message: messages::Flags,
}

pub(crate) async fn run(client: Client, request: Request) -> Result<(), Failure> {
    let message = request.message.message(request.body.into_bytes());
    let query = api::RequestQuery { timeout_ms: Some(u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX)) };
    let url = with_query(client.within(&["request", &request.subject]), &query)?;
    let body = serde_json::to_vec(&message).map_err(std::io::Error::from)?;
    let answer: Message = client.post_as(url, api::MESSAGE_TYPE, body, request.timeout).await?;
    match client.format {
        Format::Json => output::json(&answer),
        Format::Table => {
            output::bytes(&messages::body(&answer)?)?;
            output::line("")
        }
    }
}
