use std::process::{Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::wait::PATIENCE;

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

impl Output {
    /// Gives the standard output, without the last line's end.
    ///
    /// # Panics
    /// If the program failed.
    pub fn success(&self) -> &str {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out.trim_end()
    }
}

/// Runs a program to its end with a text on its standard input.
///
/// # Panics
/// If it cannot be started, or does not end in four times [`PATIENCE`].
pub async fn run(mut command: Command, input: &str) -> Output {
    let what = format!("{command:?}");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that ends early says why by its status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(PATIENCE * 4, both).await;
    let output = output.unwrap_or_else(|_| panic!("{what} does not end"));
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
