use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pgherd_sandbox::{Account, Error, Home, tool};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::cut::Cut;
use super::place::{CLIENTS, DCS, NODES, node};

/// Waits for the end of its input, kills whoever is left in the namespaces but for the process that is
/// its first argument, frees the shared memory that killed postmasters leave behind, and removes the
/// namespaces. A stopped process can be killed, too.
const GUARDIAN: &str = r#"
self=$1 home=$2
shift 2
while read -r _; do :; done
for name; do
  n=0
  while pids=$(ip netns pids "$name" | grep -vx "$self") && [ "$n" -lt 100 ]; do
    kill -KILL $pids
    n=$((n + 1))
    sleep 0.02
  done
done
for file in "$home"/*/data/postmaster.pid; do
  shm=$(sed -n 7p "$file")
  [ -n "$shm" ] && ipcrm -m "${shm##* }"
done
for name; do ip netns del "$name"; done
"#;

/// The bridge's name, within the network of the clients.
const BRIDGE: &str = "hub";

/// The networks of a run, and a directory for what lives in them; gone with the value, or with this
/// process, whatever ends it.
///
/// Each node has a network namespace of its own, and so have etcd and the clients; a bridge in the
/// clients' one joins them. Their names begin with `pgherd-` and the run's number.
#[derive(Debug)]
pub struct Network {
    // Fields drop in this order: what lives there must be gone before its directory is.
    _guardian: Guardian,
    pub(super) home: Home,
    pub(super) account: Account,
    pub(super) dcs: Namespace,
    pub(super) nodes: Vec<Namespace>,
}

/// The process that clears up.
#[derive(Debug)]
struct Guardian(Child);

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A network namespace.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Network {
    /// Makes all of it, and moves this thread, and those that it will start, to where the clients
    /// are. So it is called before there is any other thread.
    ///
    /// # Errors
    /// [`Error::Tool`] if a tool refuses, [`Error::Io`] if the system does.
    pub fn enter() -> Result<Self, Error> {
        let account = Account::choose();
        let home = Home::new(account)?;
        let run = format!("pgherd-{:06x}", rand::random::<u32>() & 0xff_ffff);
        let named = |what: &str| Namespace {
            name: format!("{run}-{what}"),
        };
        let (clients, dcs) = (named("clients"), named("dcs"));
        let nodes: Vec<Namespace> = (1..=NODES).map(|n| named(&format!("n{n}"))).collect();
        let all: Vec<&Namespace> = [&clients, &dcs].into_iter().chain(&nodes).collect();
        let network = Self {
            _guardian: Guardian(guardian(home.path(), &all)?),
            home,
            account,
            dcs: dcs.clone(),
            nodes: nodes.clone(),
        };
        for namespace in all {
            ip(&format!("netns add {}", namespace.name))?;
            ip(&format!("-n {} link set lo up", namespace.name))?;
        }
        let at = &clients.name;
        ip(&format!("-n {at} link add name {BRIDGE} type bridge"))?;
        ip(&format!("-n {at} addr add {CLIENTS}/24 dev {BRIDGE}"))?;
        ip(&format!("-n {at} link set {BRIDGE} up"))?;
        join(&clients, &dcs, "dcs", DCS)?;
        for (number, namespace) in nodes.iter().enumerate() {
            join(
                &clients,
                namespace,
                &format!("n{}", number + 1),
                node(number),
            )?;
        }
        clients.enter()?;
        Ok(network)
    }
}

fn guardian(home: &Path, all: &[&Namespace]) -> Result<Child, Error> {
    Command::new("/bin/sh")
        .args(["-c", GUARDIAN, "pgherd-guardian"])
        .arg(std::process::id().to_string())
        .arg(home)
        .args(all.iter().map(|namespace| &namespace.name))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| failed("start a guardian", source))
}

/// Joins a namespace to the bridge in another one.
fn join(
    hub: &Namespace,
    namespace: &Namespace,
    port: &str,
    address: Ipv4Addr,
) -> Result<(), Error> {
    let (hub, name) = (&hub.name, &namespace.name);
    ip(&format!(
        "-n {hub} link add name {port} type veth peer name eth0 netns {name}"
    ))?;
    ip(&format!("-n {hub} link set {port} master {BRIDGE} up"))?;
    ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
    ip(&format!("-n {name} link set eth0 up"))
}

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<(), Error> {
    let output = Command::new("ip")
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| failed("run ip", source))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        tool: format!("ip {words}"),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

pub(super) fn failed(what: &str, source: io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}

impl Namespace {
    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    fn enter(&self) -> Result<(), Error> {
        fs::File::open(self.path())
            .and_then(|file| {
                let kind = Some(LinkNameSpaceType::Network);
                Ok(move_into_link_name_space(file.as_fd(), kind)?)
            })
            .map_err(|source| failed("enter a network namespace", source))
    }

    /// A command that runs here as root.
    fn root(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg(program);
        command
    }

    /// A command that runs here as a user, in a clean environment and a process group of its own.
    pub(super) fn command(&self, account: Account, program: &Path) -> Command {
        let mut command = self.root("setpriv");
        if let Account::Other { uid, gid } = account {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--clear-groups");
        }
        command
            .arg(program)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .process_group(0);
        command
    }

    /// The numbers of all processes that live here.
    pub(super) fn pids(&self) -> Vec<Pid> {
        let Ok(number) = fs::metadata(self.path()).map(|file| file.ino()) else {
            return Vec::new();
        };
        let here = PathBuf::from(format!("net:[{number}]"));
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == here)
            })
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Sends a signal to all of them, until none is new; gives how many there were.
    pub(super) fn signal(&self, signal: Signal) -> usize {
        let mut told: Vec<Pid> = Vec::new();
        loop {
            let mut fresh = self.pids();
            fresh.retain(|pid| !told.contains(pid));
            if fresh.is_empty() {
                return told.len();
            }
            for pid in &fresh {
                // Whoever has ended meanwhile needs no signal.
                let _ = kill_process(*pid, signal);
            }
            told.extend(fresh);
        }
    }

    /// Lets pass everything but what is cut.
    ///
    /// # Errors
    /// As [`tool::run`].
    pub(super) async fn cut(&self, cut: Cut, number: usize) -> Result<(), Error> {
        for rule in cut.rules(number) {
            let mut command = self.root("iptables");
            command.arg("-w").args(rule);
            tool::run(command).await?;
        }
        Ok(())
    }

    /// Lets everything pass.
    ///
    /// # Errors
    /// As [`tool::run`].
    pub(super) async fn heal(&self) -> Result<(), Error> {
        let mut command = self.root("iptables");
        command.args(["-w", "-F"]);
        tool::run(command).await.map(drop)
    }
}
