//! Programs that do one thing and end.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::error::Error;

/// How long any of them may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program to its end, and gives what it wrote to its standard output.
///
/// # Errors
/// [`Error::Tool`] if it fails, [`Error::Slow`] after two minutes.
pub async fn run(command: Command) -> Result<String, Error> {
    feed(command, "").await
}

/// Runs a program to its end with a text on its standard input, else as [`run`].
///
/// # Errors
/// As [`run`].
pub async fn feed(mut command: Command, input: &str) -> Result<String, Error> {
    let tool = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(Error::io(format!("run {tool}")))?;
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that ends early says why by its status.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = timeout(PATIENCE, both)
        .await
        .map_err(|_| Error::Slow {
            tool: tool.clone(),
            after: PATIENCE,
        })?
        .map_err(Error::io(format!("run {tool}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Tool {
        tool,
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_longer_than_a_pipe_comes_back() {
        let text = "x".repeat(300_000);
        assert_eq!(feed(Command::new("cat"), &text).await.unwrap(), text);
    }

    #[tokio::test]
    async fn a_failure_tells_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = run(command).await.unwrap_err();
        assert!(matches!(error, Error::Tool { message, .. } if message == "why"));
    }
}
