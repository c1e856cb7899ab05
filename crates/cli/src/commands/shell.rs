//! Running a command for a message: the body on its standard input, the rest in its environment.

use std::process::Stdio;
use std::time::Duration;

use api::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};

use super::messages;
use crate::failure::{Exit, Failure};
use crate::output;

/// Most characters of a command's last words that are kept as the reason of its failure.
const MAX_REASON_CHARS: usize = 200;
/// Bytes of a line of standard error that are looked at for it.
const MAX_LINE_BYTES: usize = 4 * MAX_REASON_CHARS;
/// How long what a command wrote is waited for after its end. Something that it left running may hold its standard error open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a command ended.
pub(crate) struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// The last line that it wrote on standard error.
    pub(crate) last_line: Option<String>,
    /// What it wrote, if that was asked for.
    pub(crate) output: Vec<u8>,
}

impl Ended {
    /// Why it failed, for the message's history: `exit code 1: card declined`.
    pub(crate) fn reason(&self) -> String {
        let end = self.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        match &self.last_line {
            Some(line) => format!("{end}: {line}"),
            None => end,
        }
    }
}

/// Runs `sh -c command` for a message. `captured` keeps what it writes rather than passing it on. `alive` is called again and again
/// while it runs, every `beat`. What it writes on standard error is passed on as it comes.
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
    let mut last_line = LastLine::default();
    let errors = child.stderr.take();
    let work = async {
        let end = async {
            let (output, ()) = tokio::join!(child.wait_with_output(), feed);
            output
        };
        let listen = listen(errors, &mut last_line);
        tokio::pin!(end, listen);
        tokio::select! {
            output = &mut end => {
                let _ = tokio::time::timeout(LAST_WORDS, listen).await;
                output
            }
            () = &mut listen => end.await,
        }
    };
    let output = {
        tokio::pin!(work);
        loop {
            tokio::select! {
                output = &mut work => break output?,
                () = tokio::time::sleep(beat) => alive().await,
            }
        }
    };
    Ok(Ended { code: output.status.code(), last_line: last_line.text(), output: output.stdout })
}

/// Passes on what a command writes on standard error, and keeps its last line.
async fn listen(errors: Option<ChildStderr>, last_line: &mut LastLine) {
    let Some(mut errors) = errors else { return };
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = errors.read(&mut chunk).await {
        let chunk = chunk.get(..length).unwrap_or_default();
        output::errors(chunk);
        last_line.feed(chunk);
    }
}

/// The last line of a text that is not blank, as far as it is kept.
#[derive(Default)]
struct LastLine {
    done: Vec<u8>,
    open: Vec<u8>,
}

impl LastLine {
    fn feed(&mut self, chunk: &[u8]) {
        for byte in chunk {
            if *byte != b'\n' {
                if self.open.len() < MAX_LINE_BYTES {
                    self.open.push(*byte);
                }
            } else if self.open.trim_ascii().is_empty() {
                self.open.clear();
            } else {
                self.done = std::mem::take(&mut self.open);
            }
        }
    }

    fn text(&self) -> Option<String> {
        let line = if self.open.trim_ascii().is_empty() { &self.done } else { &self.open };
        let line = String::from_utf8_lossy(line.trim_ascii());
        let text: String = line.chars().take(MAX_REASON_CHARS).map(messages::printable).collect();
        (!text.is_empty()).then_some(text)
    }
}

fn spawn(command: &str, message: &Message, attempt: u32, captured: bool) -> Result<Child, Failure> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).kill_on_drop(true);
    shell.stderr(Stdio::piped()).stdout(if captured { Stdio::piped() } else { Stdio::inherit() });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn last_line(chunks: &[&[u8]]) -> Option<String> {
        let mut line = LastLine::default();
        for chunk in chunks {
            line.feed(chunk);
        }
        line.text()
    }

    #[test]
    fn the_last_line_that_says_something_is_kept() {
        assert_eq!(last_line(&[]), None);
        assert_eq!(last_line(&[b"\n \n"]), None);
        assert_eq!(last_line(&[b"one\ntw", b"o\r\n\n"]).as_deref(), Some("two"));
        assert_eq!(last_line(&[b"one\nno end"]).as_deref(), Some("no end"));
        assert_eq!(last_line(&[b"\x1b[2Jx"]).as_deref(), Some("\u{fffd}[2Jx"));
        assert_eq!(last_line(&["\u{e4}".repeat(5000).as_bytes()]).map(|text| text.chars().count()), Some(200));
    }

    #[test]
    fn a_reason_names_the_exit_and_the_last_words() {
        let ended =
            |code, line: Option<&str>| Ended { code, last_line: line.map(str::to_owned), output: Vec::new() }.reason();
        assert_eq!(ended(Some(1), Some("card declined")), "exit code 1: card declined");
        assert_eq!(ended(Some(9), None), "exit code 9");
        assert_eq!(ended(None, None), "ended by a signal");
    }
}
