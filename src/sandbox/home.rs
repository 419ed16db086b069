use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::account::Account;
use crate::error::Error;
use crate::tool;

/// A temporary directory for one server, and its guardian.
///
/// The guardian is a small shell process that outlives this one by a moment: when this process
/// ends without running `Drop` (a kill, an abort), it kills the server and removes the directory.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    guardian: Child,
}

/// Reads process numbers, one a line; at the end of the input it kills the last one and its
/// children, frees the shared memory that Postgres' pid file names, and removes the directory, with
/// the disk that is mounted there, if it is one.
const GUARDIAN: &str = r#"
pid=0
while read -r next; do pid=$next; done
if [ "$pid" -gt 0 ]; then
  kill -STOP "$pid"
  kids=$(cat "/proc/$pid/task/$pid/children" || pgrep -P "$pid")
  kill -KILL "$pid" $kids
  shm=$(sed -n 7p "$1/data/postmaster.pid")
  [ -n "$shm" ] && ipcrm -m "${shm##* }"
fi
mountpoint -q "$1" && umount -l "$1"
n=0
until rm -rf -- "$1" || [ "$n" -ge 50 ]; do n=$((n + 1)); sleep 0.1; done
"#;

impl Home {
    /// Makes a directory that belongs to `account` and that everyone may enter.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory or the guardian cannot be made.
    pub fn new(account: Account) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("pgherd-")
            .tempdir_in(parent(account))
            .map_err(Error::io("make a temporary directory"))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .and_then(|()| account.own(dir.path()))
            .map_err(Error::io("open up the temporary directory"))?;
        let guardian = Command::new("/bin/sh")
            .args(["-c", GUARDIAN, "pgherd-guardian"])
            .arg(dir.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Error::io("start a guardian"))?;
        Ok(Self { dir, guardian })
    }

    /// Makes a disk of so many bytes of the directory, which is empty. They are taken from the memory
    /// as they are used.
    ///
    /// # Errors
    /// [`Error::Tool`] with what `mount` says, as to everybody but root.
    pub(crate) async fn mount(&self, account: Account, bytes: u64) -> Result<(), Error> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={bytes},mode=0755"))
            .arg("pgherd")
            .arg(self.path());
        tool::run(mount).await?;
        account
            .own(self.path())
            .map_err(Error::io("lend a disk to the user of the servers"))
    }

    /// Gives the directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Gives a path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives the last lines of a file inside, for error messages.
    pub fn tail(&self, name: &str) -> String {
        let bytes = fs::read(self.join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Tells the guardian which process lives here now.
    pub(crate) fn watch(&mut self, pid: u32) {
        if let Some(stdin) = &mut self.guardian.stdin {
            // Without its guardian the home is still cleaned by `Drop`.
            let _ = writeln!(stdin, "{pid}").and_then(|()| stdin.flush());
        }
    }

    /// Tells the guardian that no process lives here.
    pub(crate) fn unwatch(&mut self) {
        self.watch(0);
    }

    /// Frees the small System V segment that a killed postmaster leaves behind. Its number is the
    /// last word of the seventh line of `postmaster.pid` (Postgres' `miscadmin.h`).
    fn free_shared_memory(&self) {
        let text = fs::read_to_string(self.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(id) = segment(&text) {
            let _ = Command::new("ipcrm")
                .args(["-m", id])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.unwatch();
        self.free_shared_memory();
        // The guardian ends with its input, and removes the directory if it is still there.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

fn parent(account: Account) -> PathBuf {
    match account {
        Account::Own => std::env::temp_dir(),
        // Root's own temporary directory may be closed to the user who is lent.
        Account::Other { .. } => PathBuf::from("/tmp"),
    }
}

fn segment(pid_file: &str) -> Option<&str> {
    pid_file.lines().nth(6)?.split_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn the_segment_is_named_on_the_seventh_line() {
        let text = "1\n/d\n2\n3\n/s\n127.0.0.1\n  4567 98304\nready\n";
        assert_eq!(segment(text), Some("98304"));
        assert_eq!(segment("1\n/d\n"), None);
    }

    #[test]
    fn a_home_is_removed_with_what_is_in_it() {
        let home = Home::new(Account::Own).unwrap();
        let path = home.path().to_owned();
        fs::write(home.join("file"), "x").unwrap();
        drop(home);
        assert!(!path.exists());
    }

    #[test]
    fn the_guardian_kills_and_removes_when_nobody_else_does() {
        let mut home = Home::new(Account::Own).unwrap();
        let mut orphan = Command::new("sleep").arg("600").spawn().unwrap();
        home.watch(orphan.id());
        let path = home.path().to_owned();
        // What the end of this process would do: the pipe closes, no Drop runs.
        drop(home.guardian.stdin.take());
        home.guardian.wait().unwrap();
        orphan.wait().unwrap();
        assert!(!path.exists());
        assert!(!process::alive(orphan.id()));
    }
}
