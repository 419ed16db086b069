use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The operating system's user as whom servers run.
///
/// Postgres and PgBouncer refuse to run as root, so root lends them `postgres`, or `nobody`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// The user who runs this process.
    Own,
    /// Another user, because this process runs as root.
    Other {
        /// The user's number.
        uid: u32,
        /// The number of the user's group.
        gid: u32,
    },
}

/// The numbers of `nobody`, should the list of users not name it.
const NOBODY: Account = Account::Other {
    uid: 65534,
    gid: 65534,
};

impl Account {
    /// Chooses the user: the own one, or for root the first of `postgres` and `nobody`.
    pub fn choose() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Own;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| entry(&users, name))
            .unwrap_or(NOBODY)
    }

    /// Gives a command that will run as this user, in a clean environment and in a process group
    /// of its own, so that a terminal's Ctrl-C reaches this process alone.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LC_ALL", "C")
            .current_dir("/")
            .process_group(0);
        if let Self::Other { uid, gid } = self {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes the user the owner of a file or directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn own(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid } => chown(path, Some(uid), Some(gid)),
        }
    }
}

/// Finds a user in the text of `/etc/passwd`; see `passwd(5)`.
fn entry(users: &str, name: &str) -> Option<Account> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account::Other { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_by_its_whole_name() {
        let users = "postgresql:x:7:8::/:/bin/sh\npostgres:x:101:104:x:/:/bin/bash\nbroken:x\n";
        assert_eq!(
            entry(users, "postgres"),
            Some(Account::Other { uid: 101, gid: 104 })
        );
        assert_eq!(entry(users, "broken"), None);
        assert_eq!(entry(users, "nobody"), None);
    }
}
