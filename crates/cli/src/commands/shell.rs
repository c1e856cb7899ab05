//! Running a command for a message: the body on its standard input, the rest in its environment.

use std::process::Stdio;
use std::time::Duration;

use api::Message;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::messages;
use crate::failure::{Exit, Failure};

/// How a command ended.
pub(crate) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote, if that was asked for.
    pub(crate) output: Vec<u8>,
}

/// Runs `sh -c command` for a message. `captured` keeps what it writes rather than passing it on. `alive` is called again and again
/// while it runs, every `beat`.
///
/// # Errors
/// If the shell cannot be started.
pub(crate) async fn run<F>(
    command: &str,
    message: &Message,
    attempt: u32,
    captured: bool,
    beat: Duration,
    mut alive: impl FnMut() -> F,
) -> Result<Ended, Failure>
where
    F: Future<Output = ()>,
{
    let body = messages::body(message)?;
    let mut child = spawn(command, message, attempt, captured)?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is none the worse for it.
            let _ = stdin.write_all(&body).await;
        }
    };
    let work = async {
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        output
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            output = &mut work => {
                let output = output?;
                return Ok(Ended { code: output.status.code(), output: output.stdout });
            }
            () = tokio::time::sleep(beat) => alive().await,
        }
    }
}

fn spawn(command: &str, message: &Message, attempt: u32, captured: bool) -> Result<Child, Failure> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).kill_on_drop(true);
    shell.stdout(if captured { Stdio::piped() } else { Stdio::inherit() });
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let headers = serde_json::to_string(&message.headers).unwrap_or_default();
    let variables = [
        ("MESSAGE_ID", text(&message.id)),
        ("MESSAGE_SUBJECT", text(&message.subject)),
        ("MESSAGE_KEY", text(&message.key)),
        ("MESSAGE_CONTENT_TYPE", text(&message.content_type)),
        ("MESSAGE_CORRELATION_ID", text(&message.correlation_id)),
        ("MESSAGE_REPLY_TO", text(&message.reply_to)),
        ("MESSAGE_HEADERS", headers),
        ("MESSAGE_ATTEMPT", attempt.to_string()),
    ];
    // A variable cannot hold a zero byte; what a producer put there must not keep the message from being worked on.
    shell.envs(variables.map(|(name, value)| (name, value.replace('\0', "\u{fffd}"))));
    shell.spawn().map_err(|error| Failure::new(Exit::Failed, format!("`sh -c {command}` cannot be started: {error}")))
}
