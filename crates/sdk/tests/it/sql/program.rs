//! Programs that are killed at a step of their work: this test binary, started again for one of its ignored tests.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// The step after which a program stands still.
const AT: &str = "SDK_KILL_AT";

/// A program that runs, of the kind that stands still where it is told to.
pub(crate) struct Program {
    child: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Program {
    /// Starts this test binary again for the ignored test of this name, in a world of variables.
    pub(crate) fn start(test: &str, world: &[(&str, &str)], at: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).envs(world.iter().copied());
        if let Some(at) = at {
            command.env(AT, at);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Reads on until it stands still at this step (true) or has ended (false).
    fn reaches(&mut self, step: &str) -> bool {
        let wanted = format!("standing still at {step};");
        let mut line = String::new();
        while self.output.read_line(&mut line).unwrap() > 0 {
            if line.contains(&wanted) {
                return true;
            }
            line.clear();
        }
        false
    }

    pub(crate) fn kill_at(mut self, step: &str) {
        assert!(self.reaches(step), "it never came to {step:?}: {:?}", self.child.wait());
        self.killed();
    }

    pub(crate) fn kill_at_or_end(mut self, step: &str) {
        match self.reaches(step) {
            true => self.killed(),
            false => assert!(self.child.wait().unwrap().success()),
        }
    }

    /// SIGKILL: nothing in the program runs after it.
    fn killed(mut self) {
        use std::os::unix::process::ExitStatusExt;
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
    }

    pub(crate) fn end(mut self) {
        assert!(!self.reaches("no step"));
        assert!(self.child.wait().unwrap().success());
    }
}

/// Stands still here for ever, if this is where it is to be killed.
pub(crate) fn reached(step: &str) {
    if std::env::var(AT).is_ok_and(|at| at == step) {
        let mut output = std::io::stdout();
        writeln!(output, "standing still at {step};").unwrap();
        output.flush().unwrap();
        loop {
            std::thread::park();
        }
    }
}
