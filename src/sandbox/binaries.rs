use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::Error;
use crate::template::Template;

/// The programs of one Postgres installation.
///
/// Clones share a template data directory, so that `initdb` runs once however many servers are
/// started from one value; it is removed with the last clone.
#[derive(Clone, Debug)]
pub struct Binaries {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    template: OnceCell<Template>,
}

/// A program that is not installed, and how to install it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program} was not found; {hint}")]
pub struct Missing {
    program: String,
    hint: String,
}

impl Binaries {
    /// Finds Postgres: in `PGHERD_PG_BIN`, else where the packages put it (newest first), else on
    /// `PATH`.
    ///
    /// # Errors
    /// [`Missing`] if there is none; its text says what to install here.
    pub fn find() -> Result<Self, Missing> {
        let said = env::var_os("PGHERD_PG_BIN").map(PathBuf::from);
        let candidates = match said {
            Some(dir) => vec![dir],
            None => installed().into_iter().chain(on_path()).collect(),
        };
        candidates
            .into_iter()
            .find(|dir| complete(dir))
            .map(Self::at)
            .ok_or_else(|| Missing::program("postgres"))
    }

    /// Takes the programs of a directory, unchecked.
    pub fn at(dir: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                dir,
                template: OnceCell::new(),
            }),
        }
    }

    /// Gives the directory of the server's programs.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Gives the path of a program: of this installation, else from `PATH`.
    ///
    /// # Errors
    /// [`Missing`] if it is in neither.
    pub fn tool(&self, name: &str) -> Result<PathBuf, Missing> {
        let own = self.shared.dir.join(name);
        if own.is_file() {
            return Ok(own);
        }
        find_program(name).ok_or_else(|| Missing::program(name))
    }

    /// Gives the template data directory, made by `initdb` the first time.
    pub(crate) async fn template(&self) -> Result<&Template, Error> {
        self.shared
            .template
            .get_or_try_init(|| Template::make(self))
            .await
    }
}

/// Finds a program on `PATH`, or where administrators' programs are.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    on_path()
        .into_iter()
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

fn complete(dir: &Path) -> bool {
    ["postgres", "initdb"]
        .iter()
        .all(|name| dir.join(name).is_file())
}

/// Lists the directories in which packages put Postgres, newest version first.
fn installed() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = [
        ("/usr/lib/postgresql", ""),
        ("/usr/lib64", "pgsql-"),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
        ("/Library/PostgreSQL", ""),
    ]
    .iter()
    .flat_map(|(root, prefix)| versions(Path::new(root), prefix))
    .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn versions(root: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect()
}

impl Missing {
    /// Says that a program is missing on this machine.
    pub(crate) fn program(name: &str) -> Self {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = if cfg!(target_os = "macos") {
            System::Mac
        } else {
            System::of(&release)
        };
        Self {
            program: name.to_owned(),
            hint: system.hint(name == "pgbouncer"),
        }
    }
}

/// A family of operating systems that name their packages alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Debian,
    Fedora,
    Alpine,
    Arch,
    Suse,
    Mac,
    Other,
}

impl System {
    /// Reads the family from the text of `/etc/os-release`; see `os-release(5)`.
    fn of(release: &str) -> Self {
        let ids = release
            .lines()
            .filter_map(|line| {
                line.strip_prefix("ID=")
                    .or_else(|| line.strip_prefix("ID_LIKE="))
            })
            .flat_map(|value| value.trim_matches('"').split(' '));
        ids.into_iter()
            .find_map(|id| match id {
                "debian" | "ubuntu" => Some(Self::Debian),
                "fedora" | "rhel" | "centos" => Some(Self::Fedora),
                "alpine" => Some(Self::Alpine),
                "arch" => Some(Self::Arch),
                "suse" | "opensuse" => Some(Self::Suse),
                _ => None,
            })
            .unwrap_or(Self::Other)
    }

    fn hint(self, pgbouncer: bool) -> String {
        if pgbouncer {
            return format!("install it with `{}`", self.install("pgbouncer"));
        }
        let packages = match self {
            Self::Debian => "postgresql postgresql-contrib",
            Self::Fedora | Self::Suse => "postgresql-server postgresql-contrib",
            Self::Alpine => "postgresql postgresql-contrib",
            Self::Arch => "postgresql",
            Self::Mac => "postgresql@17",
            Self::Other => {
                return "install PostgreSQL 14 or newer (server and client programs), or name \
                        the directory of its programs in PGHERD_PG_BIN"
                    .to_owned();
            }
        };
        format!(
            "install it with `{}`, or name the directory of its programs in PGHERD_PG_BIN",
            self.install(packages)
        )
    }

    fn install(self, packages: &str) -> String {
        let command = match self {
            Self::Debian => "apt-get install",
            Self::Fedora => "dnf install",
            Self::Alpine => "apk add",
            Self::Arch => "pacman -S",
            Self::Suse => "zypper install",
            Self::Mac => "brew install",
            Self::Other => "your package manager:",
        };
        format!("{command} {packages}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "common"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let mut found = versions(root.path(), "");
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        let order: Vec<u32> = found.iter().map(|(version, _)| *version).collect();
        assert_eq!(order, [17, 15, 9]);
    }

    #[test]
    fn the_hint_fits_the_system() {
        let ubuntu = System::of("NAME=\"Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n");
        assert_eq!(ubuntu, System::Debian);
        assert!(ubuntu.hint(false).contains("apt-get install postgresql"));
        assert!(ubuntu.hint(true).contains("apt-get install pgbouncer"));
        assert_eq!(System::of("ID=fedora"), System::Fedora);
        assert!(System::of("").hint(false).contains("PGHERD_PG_BIN"));
    }

    #[test]
    fn an_empty_directory_is_not_an_installation() {
        let root = tempfile::tempdir().unwrap();
        assert!(!complete(root.path()));
        for name in ["postgres", "initdb"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        assert!(complete(root.path()));
    }
}
