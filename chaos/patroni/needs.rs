use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pgherd_sandbox::{Account, Error};

use super::Way;
use super::network::failed;

/// Debian's own, because another one may be where the user of the servers cannot enter.
const PYTHON: &str = "/usr/bin/python3";

/// What is installed; the driver comes with its own libpq.
const PATRONI: &str = "patroni[etcd3,psycopg3]~=4.1.0";

/// Programs, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];

/// Those that only the comparison needs.
const CONTROL: [(&str, &str); 2] = [("haproxy", "haproxy"), ("pgbouncer", "pgbouncer")];

/// What is not there and has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    root: bool,
    programs: Vec<&'static str>,
    packages: Vec<&'static str>,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.root {
            write!(f, "it has to run as root, which alone may make networks")?;
        }
        if !self.programs.is_empty() {
            let and = if self.root { "; and " } else { "" };
            let (programs, packages) = (self.programs.join(", "), self.packages.join(" "));
            write!(
                f,
                "{and}missing here: {programs}; install with `apt-get install {packages}`"
            )?;
        }
        Ok(())
    }
}

/// Looks whether everything is there that cannot be made here.
///
/// # Errors
/// [`Lacking`] says what is not.
pub fn check(way: &Way) -> Result<(), Lacking> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    let there = |program: &str| places.iter().any(|dir| dir.join(program).is_file());
    lacking(way, rustix::process::geteuid().is_root(), there)
}

fn lacking(way: &Way, root: bool, there: impl Fn(&str) -> bool) -> Result<(), Lacking> {
    let control = match way {
        Way::Control => &CONTROL[..],
        Way::Pgherd(_) => &[],
    };
    let needed = PROGRAMS.iter().chain(control);
    let missing: Vec<_> = needed.filter(|(program, _)| !there(program)).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    if root && missing.is_empty() {
        return Ok(());
    }
    Err(Lacking {
        root: !root,
        programs: missing.iter().map(|(program, _)| *program).collect(),
        packages,
    })
}

/// A virtual environment of Python's that has Patroni.
#[derive(Clone, Debug)]
pub struct Venv {
    patroni: PathBuf,
}

impl Venv {
    /// Finds the one in a directory, or makes it there, for which the network is needed.
    ///
    /// # Errors
    /// [`Error::Tool`] if that cannot be, or if the user of the servers cannot run what is there.
    pub fn prepare(dir: &Path) -> Result<Self, Error> {
        let dir = std::path::absolute(dir)
            .map_err(|source| failed("find the directory of Patroni", source))?;
        let patroni = dir.join("bin/patroni");
        if !works(&patroni, &mut Command::new(&patroni)) {
            eprintln!("making {} with Patroni in it", dir.display());
            let mut venv = Command::new(PYTHON);
            venv.args(["-m", "venv", "--clear"]).arg(&dir);
            done(&mut venv)?;
            let mut pip = Command::new(dir.join("bin/pip"));
            pip.args(["install", "--quiet", "--disable-pip-version-check", PATRONI]);
            done(&mut pip)?;
        }
        let account = Account::choose();
        if works(&patroni, &mut account.command(&patroni)) {
            return Ok(Self { patroni });
        }
        Err(Error::Tool {
            tool: patroni.display().to_string(),
            message:
                "the user of the servers cannot run it; is a directory above closed to others? \
                      Then name another one with --venv"
                    .to_owned(),
        })
    }

    /// The program.
    pub(super) fn patroni(&self) -> &Path {
        &self.patroni
    }
}

/// Whether a program is there and tells its version.
fn works(program: &Path, command: &mut Command) -> bool {
    command.arg("--version");
    program.is_file() && output(command).is_ok_and(|output| output.status.success())
}

fn done(command: &mut Command) -> Result<(), Error> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let ran = output(command).map_err(|source| failed(&format!("run {tool}"), source))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = [ran.stdout, ran.stderr].concat();
    Err(Error::Tool {
        tool,
        message: String::from_utf8_lossy(&said).trim().to_owned(),
    })
}

fn output(command: &mut Command) -> std::io::Result<Output> {
    command.stdin(Stdio::null()).output()
}

#[cfg(test)]
mod tests {
    use super::{Way, lacking};

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let pgherd = Way::Pgherd("/x".into());
        assert_eq!(lacking(&pgherd, true, |_| true), Ok(()));
        let none = lacking(&pgherd, false, |program| !program.starts_with("etcd"));
        assert_eq!(
            none.unwrap_err().to_string(),
            "it has to run as root, which alone may make networks; and missing here: etcd, etcdctl; \
             install with `apt-get install etcd-server etcd-client`"
        );
        let unproxied = |program: &str| program != "haproxy";
        assert_eq!(lacking(&pgherd, true, unproxied), Ok(()));
        let control = lacking(&Way::Control, true, unproxied).unwrap_err();
        assert_eq!(
            control.to_string(),
            "missing here: haproxy; install with `apt-get install haproxy`"
        );
    }
}
