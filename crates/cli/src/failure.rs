//! What went wrong, what to do about it, and the exit code that scripts see.

use std::fmt;

use api::Problem;

/// Exit codes. They are part of the command line's interface: a number is never given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something else went wrong.
    Failed = 1,
    /// The command line, or a value on it, makes no sense.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// It was refused as things stand: a conflict, a limit, a lease that ran out.
    Refused = 4,
    /// The credentials are missing or wrong, or do not allow it.
    Access = 5,
    /// Nothing came in time, or nobody is there to answer.
    Timeout = 6,
    /// The server cannot be reached.
    Connection = 7,
}

/// For `posthouse --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line, or a value on it, makes no sense
  3  what was named does not exist
  4  refused as things stand: a conflict, a limit, a lease that ran out
  5  the credentials are missing or wrong, or do not allow it
  6  nothing came in time, or nobody is there to answer
  7  the server cannot be reached";

/// A command that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: None }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<server::StartError> for Failure {
    fn from(error: server::StartError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<server::config::ConfigError> for Failure {
    fn from(error: server::config::ConfigError) -> Self {
        Self::usage(error.to_string())
            .hint("`posthouse config print` shows every setting and where its value came from")
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.status {
            400 | 413 | 415 | 422 => Exit::Usage,
            401 | 403 => Exit::Access,
            404 => Exit::NotFound,
            408 | 504 => Exit::Timeout,
            409 | 410 | 412 | 416 | 423 | 428 | 429 => Exit::Refused,
            _ => Exit::Failed,
        };
        let detail = if problem.detail.is_empty() { problem.title.clone() } else { problem.detail.clone() };
        let field = problem.field.as_ref().filter(|field| !detail.contains(field.as_str()));
        let what = match field {
            Some(field) => format!("{field}: {detail}"),
            None => detail,
        };
        let exit = if problem.slug() == "no-responders" { Exit::Timeout } else { exit };
        Self { exit, what, hint: hint(&problem) }
    }
}

/// Where to look up the right name of what was not found. The detail says `there is no queue "paymnt"`.
fn not_found(detail: &str) -> String {
    let noun = detail.strip_prefix("there is no ").and_then(|rest| rest.split(' ').next());
    match noun {
        Some(noun @ ("queue" | "topic" | "group" | "policy" | "binding")) => {
            format!("`posthouse {noun} list` shows those there are; names belong to a namespace (--namespace)")
        }
        Some(noun @ ("user" | "token" | "namespace")) => format!("`posthouse {noun} list` shows those there are"),
        _ => "the `list` command of its kind shows what there is; names belong to a namespace (--namespace)".to_owned(),
    }
}

/// What to do about a problem that the server reported.
fn hint(problem: &Problem) -> Option<String> {
    if let Some(near) = &problem.did_you_mean {
        return Some(format!("did you mean {near:?}?"));
    }
    let text = match problem.slug() {
        "unauthenticated" => {
            "give --user and --password, or --token (POSTHOUSE_USER, POSTHOUSE_PASSWORD, POSTHOUSE_TOKEN)"
        }
        "forbidden" => {
            "an administrator can allow it: posthouse user update NAME -n NAMESPACE --configure, --write or --read PATTERN"
        }
        "no-such-namespace" => "`posthouse namespace list` shows those there are; choose one with --namespace",
        "not-found" => return Some(not_found(&problem.detail)),
        "definition-conflict" => "see it with the `show` command; the `update` command changes it",
        "in-use" if problem.detail.ends_with(" bindings") || problem.detail.ends_with(" consumers") => {
            "leave out --if-unused to delete it all the same"
        }
        "in-use" if problem.detail.ends_with(" messages") => "leave out --if-empty to delete it all the same",
        "backup-under-way" => "`posthouse status` shows how far it is",
        "no-backups" => "the server keeps its logs in memory or elsewhere: there is nothing of its own to copy",
        "no-log" => "a topic keeps a log if it has a retention: posthouse topic update NAME --retain 7d",
        "no-key-index" => "make the topic with --key-index",
        "offset-out-of-range" => "start at `earliest`, or at an offset that is there",
        "lease-expired" | "unknown-delivery" => {
            "the message is or was delivered again; a longer --lease gives more time"
        }
        "queue-full" | "dedup-window-full" => "consume from it, or raise its limit",
        "quota-reached" => "an administrator can raise it: posthouse namespace update NAME ...",
        "no-responders" => "start what answers, such as `posthouse reply SUBJECT ...`",
        "wrong-version" => "read the current value, decide again, and publish with its version",
        "storage-full" => "consume or delete messages, or give the data directory more space",
        "storage-failed" => "the server's log says what failed; it takes writes again after a restart",
        _ => {
            let after = problem.retry_after_ms?;
            return Some(format!("try again in {} s", after.div_ceil(1000)));
        }
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_leads_to_the_list_of_its_kind() {
        let hint = |detail: &str| not_found(detail);
        assert!(hint("there is no queue \"paymnt\"").contains("posthouse queue list"));
        assert!(hint("there is no user \"x\"").contains("posthouse user list"));
        assert!(hint("nothing of the kind").contains("`list` command"));
    }

    #[test]
    fn the_page_lists_the_exit_codes_that_help_lists() {
        let page = include_str!("../../../docs/cli.md");
        for line in EXIT_CODES.lines().skip(1) {
            let (code, meaning) = line.trim().split_once("  ").unwrap();
            assert!(page.contains(&format!("| {code} | {meaning} |")), "docs/cli.md lacks {code}: {meaning}");
        }
    }
}
