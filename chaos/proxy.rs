//! The executable under test, and what can be seen of it from outside.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pgherd_planted as planted;
use pgherd_sandbox::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long the executable may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What it says when somebody else listens at its port.
const TAKEN: &str = "Address already in use";

/// How often it is looked at meanwhile.
const TICK: Duration = Duration::from_millis(10);

/// What a panic says that was asked for.
pub(crate) const WANTED: &str = "a test wanted this";

/// A running pgherd; dropped, it is killed, and the test fails if anything in it has panicked.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    executable: String,
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    /// The actor that panics again and again, as somebody wants it to.
    crashes: Option<&'static str>,
    /// It takes orders.
    obeys: bool,
    home: TempDir,
}

impl Proxy {
    /// Starts the executable with a configuration file of this content, on a port of its own, and
    /// waits until it takes connections. No variable of the environment reaches it but the one that plants a bug.
    ///
    /// # Panics
    /// If it does not start, with its log.
    pub fn start(executable: &str, configuration: &str) -> Self {
        Self::start_as(executable, configuration, false)
    }

    /// As [`Self::start`], of one that also takes the orders of [`Self::order_crash`], for which it looks all the time.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_obedient(executable: &str, configuration: &str) -> Self {
        Self::start_as(executable, configuration, true)
    }

    fn start_as(executable: &str, configuration: &str, obeys: bool) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        fs::write(file(&home), configuration).expect("the file can be written");
        let (port, log) = (free_port(), Arc::default());
        let orders = obeys.then(|| (pgherd_actors::chaos::ORDERS, order(&home)));
        let mut proxy = Self {
            child: spawn(executable, &home, port, [None, orders], &log),
            executable: executable.to_owned(),
            port,
            log,
            crashes: None,
            obeys,
            home,
        };
        // Another process may have taken the port meanwhile.
        while !proxy.await_listening() {
            proxy.port = free_port();
            proxy.log = Arc::default();
            proxy.child = proxy.spawn();
        }
        proxy
    }

    fn spawn(&self) -> Child {
        let crash = self
            .crashes
            .map(|path| (pgherd_actors::chaos::CRASH, path.into()));
        let orders = (pgherd_actors::chaos::ORDERS, order(&self.home));
        let orders = self.obeys.then_some(orders);
        spawn(
            &self.executable,
            &self.home,
            self.port,
            [crash, orders],
            &self.log,
        )
    }

    /// Kills it (SIGKILL), as a machine would that loses its power.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port behind [`Self::kill9`], and gives the log of its last life. The actor with this path,
    /// if there is one, then panics again and again, which takes an executable with the feature `chaos`.
    ///
    /// # Panics
    /// If anything has panicked in its last life that was not to, or it does not start.
    pub fn start_again(&mut self, crashes: Option<&'static str>) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        let lines = log.lock().clone();
        assert_eq!(panicked(&lines, self.crashes), None, "pgherd panicked");
        self.crashes = crashes;
        self.child = self.spawn();
        assert!(self.await_listening(), "its port was taken");
        lines
    }

    /// Has the actors with this path panic, once, as soon as one is there; it takes an executable with the feature
    /// `chaos`.
    ///
    /// # Panics
    /// If the order cannot be written.
    pub fn order_crash(&self, path: &str) {
        // Nobody may read half of it.
        let draft = self.home.path().join("order.new");
        fs::write(&draft, path).expect("the order can be written");
        fs::rename(draft, order(&self.home)).expect("the order can be given");
    }

    /// Whether the last order of this kind is carried out.
    pub fn has_obeyed(&self) -> bool {
        !order(&self.home).exists()
    }

    /// Takes an order back that was not carried out.
    pub fn withdraw(&self) {
        // If it is not there it was carried out meanwhile.
        let _ = fs::remove_file(order(&self.home));
    }

    /// Stops it without its knowledge (SIGSTOP): connections stay open and silent.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // If it is gone, it is noticed elsewhere.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Settings for a client of it.
    pub fn client(&self, user: &str, password: &str, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user(user)
            .password(password)
            .dbname(database)
            .connect_timeout(Duration::from_secs(30));
        config
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process lives.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        count(&format!("/proc/{}/fd", self.pid()))
    }

    /// How many descriptors it has open but for its connections to servers at these ports.
    pub fn descriptors_but(&self, servers: &[u16]) -> usize {
        let own = format!("/proc/{}", self.pid());
        let sockets = ["tcp", "tcp6"].map(|kind| {
            let table = fs::read_to_string(format!("{own}/net/{kind}")).unwrap_or_default();
            to_servers(&table, servers)
        });
        let others = self.links().filter(|link| {
            inode(link).is_none_or(|inode| sockets.iter().all(|known| !known.contains(&inode)))
        });
        others.count()
    }

    /// What its descriptors lead to.
    fn links(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid()));
        let entries = entries.into_iter().flatten();
        entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
    }

    /// How many threads it has.
    pub fn threads(&self) -> usize {
        count(&format!("/proc/{}/task", self.pid()))
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    }

    /// How often its main thread, on which all actors but sessions live, has gone to sleep.
    pub fn naps(&self) -> u64 {
        let pid = self.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/task/{pid}/status"));
        let status = status.unwrap_or_default();
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or_default()
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Waits until it takes connections; false if somebody else has its port.
    fn await_listening(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let alive = self.is_alive();
            if !alive && self.log().iter().any(|line| line.contains(TAKEN)) {
                return false;
            }
            if alive && self.is_listening() {
                return true;
            }
            if !alive || Instant::now() > deadline {
                panic!("pgherd did not start:\n{}", self.log().join("\n"));
            }
            thread::sleep(TICK);
        }
    }

    /// Whether this process, and nobody else, listens at its port.
    fn is_listening(&self) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid()));
        let listener = listener(&table.unwrap_or_default(), self.port);
        let is_its = |known| self.links().any(|link| inode(&link) == Some(known));
        listener.is_some_and(is_its) && TcpStream::connect(self.address()).is_ok()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let died = !self.is_alive();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            let from = log.len().saturating_sub(40);
            eprintln!("the end of pgherd's log:\n{}", log[from..].join("\n"));
            return;
        }
        assert_eq!(panicked(&log, self.crashes), None, "pgherd panicked");
        assert!(!died, "pgherd has ended by itself:\n{}", log.join("\n"));
    }
}

fn file(home: &TempDir) -> PathBuf {
    home.path().join("pgherd.toml")
}

/// Where it looks for orders.
fn order(home: &TempDir) -> PathBuf {
    home.path().join("order")
}

/// Starts the executable, and has its log collected.
fn spawn(
    executable: &str,
    home: &TempDir,
    port: u16,
    variables: [Option<(&str, PathBuf)>; 2],
    log: &Arc<Mutex<Vec<String>>>,
) -> Child {
    let mut child = Command::new(executable)
        .env_clear()
        .envs(env::var_os(planted::VARIABLE).map(|bug| (planted::VARIABLE, bug)))
        .envs(variables.into_iter().flatten())
        .arg("--config")
        .arg(file(home))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable can be run");
    if let Some(stderr) = child.stderr.take() {
        let log = Arc::clone(log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().push(line);
            }
        });
    }
    child
}

/// A line that tells of a panic, unless somebody wanted one.
fn panicked<'a>(log: &'a [String], crashes: Option<&str>) -> Option<&'a String> {
    // What it says is on the next line, unless another thread has come between.
    let wanted = |at: usize| log[at..].iter().take(4).any(|words| words == WANTED);
    let mut lines = log.iter().enumerate().filter(|_| crashes.is_none());
    let found = lines.find(|(at, line)| line.contains("panicked at") && !wanted(*at));
    found.map(|(_, line)| line)
}

/// The inodes of the sockets in one of the kernel's tables whose other end is at one of these ports.
fn to_servers(table: &str, servers: &[u16]) -> HashSet<u64> {
    let lines = table.lines().skip(1);
    let sockets = lines.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words.get(2)?.rsplit(':').next()?;
        let port = u16::from_str_radix(port, 16).ok()?;
        servers.contains(&port).then_some(())?;
        words.get(9)?.parse().ok()
    });
    sockets.collect()
}

/// The inode of the socket in the kernel's table that listens at this port.
fn listener(table: &str, port: u16) -> Option<u64> {
    const LISTENS: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = words.get(1)?.rsplit(':').next()?;
        let own = u16::from_str_radix(own, 16).ok()?;
        (own == port && *words.get(3)? == LISTENS).then_some(())?;
        words.get(9)?.parse().ok()
    })
}

/// The inode of the socket that a descriptor leads to, if it is one.
fn inode(link: &Path) -> Option<u64> {
    let inode = link.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::{WANTED, listener, panicked, to_servers};

    #[test]
    fn only_who_was_told_to_may_panic() {
        let log = ["thread 'main' panicked at a.rs:1:1:", WANTED, "it goes on"];
        let mut log = log.map(str::to_owned);
        assert_eq!(panicked(&log, None), None);
        log[1] = "attempt to divide by zero".to_owned();
        assert_eq!(panicked(&log, None), log.first());
        assert_eq!(panicked(&log, Some("root/router")), None);
    }

    #[test]
    fn sockets_are_known_by_the_port_of_their_other_end() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1\n\
            1: 0100007F:9C40 0100007F:1538 01 00000000:00000000 00:00000000 00000000  1000        0 12 1\n\
            2: 0100007F:1538 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 13 1\n";
        let found = |port| to_servers(table, &[port]).into_iter().collect::<Vec<_>>();
        assert_eq!(found(5432), [12]);
        assert_eq!(found(40000), [13]);
        assert!(found(1).is_empty());
        assert_eq!(listener(table, 5432), Some(11));
        assert_eq!(listener(table, 40000), None);
    }
}
