use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use pgherd_sandbox::{Account, Daemon, Home, free_port};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::{Client, connect};
use crate::database::Database;
use crate::wait::{PATIENCE, until};

/// Gives the path of the executable: `PGHERD_BIN`, or what Cargo built along with the tests.
///
/// # Panics
/// If there is none.
pub fn executable() -> PathBuf {
    if let Some(said) = std::env::var_os("PGHERD_BIN") {
        return said.into();
    }
    let test = std::env::current_exe().expect("a test knows itself");
    let built = test
        .ancestors()
        .nth(2)
        .expect("target/debug/deps/it")
        .join("pgherd");
    assert!(built.is_file(), "{} is not built", built.display());
    built
}

/// A configuration file's text; `{port}` in it is the port to listen on, `{dir}` the directory
/// that is the proxy's own.
#[derive(Clone, Debug)]
pub struct Config {
    text: String,
}

impl Config {
    /// Takes a whole text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// A configuration before a database, trusting the users `app`, `other` and `postgres`.
    ///
    /// `more` is added: lines for the database (`hosts` is given already, and it is the table
    /// that is open), then any tables other than `[auth]`, `[listen]` and `[log]`.
    pub fn before(database: &Database, more: &str) -> Self {
        let name = &database.name;
        let port = database.port;
        Self::text(format!(
            "[listen]\naddresses = [\"127.0.0.1:{{port}}\"]\n\
             [auth]\nmethod = \"trust\"\n\
             [log]\nstats_every = 0\n\
             [users.app]\npassword = \"app\"\nconsole = \"admin\"\n\
             [users.other]\npassword = \"other\"\nconsole = \"reader\"\n\
             [users.postgres]\npassword = \"postgres\"\n\
             [databases.{name}]\nhosts = [\"127.0.0.1:{port}\"]\n{more}\n"
        ))
    }
}

/// A running pgherd; dropped, it is killed.
///
/// The drop fails the test if the log tells of a panic, and shows the log of a failed test.
#[derive(Debug)]
pub struct Proxy {
    // Fields drop in this order: the process must be gone before its directory is.
    daemon: Daemon,
    home: Home,
    port: u16,
}

impl Proxy {
    /// Starts one before a database; `more` as [`Config::before`] takes it.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn before(database: &Database, more: &str) -> Self {
        Self::start(&Config::before(database, more)).await
    }

    /// Starts one with a configuration and waits until it accepts clients.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start(config: &Config) -> Self {
        Self::launch(Some(config), |_, _| {}).await
    }

    /// Starts one with a configuration, by a command that `prepare` may change.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn start_by(config: &Config, prepare: impl FnOnce(&mut Command)) -> Self {
        Self::launch(Some(config), |command, _| prepare(command)).await
    }

    /// Starts one without a file, by arguments and variables: `prepare` gets the command and the
    /// port. Waits until it accepts clients.
    ///
    /// # Panics
    /// If it does not come up.
    pub async fn by_hand(prepare: impl FnOnce(&mut Command, u16)) -> Self {
        Self::launch(None, prepare).await
    }

    async fn launch(config: Option<&Config>, prepare: impl FnOnce(&mut Command, u16)) -> Self {
        raise_descriptor_limit();
        let mut home = Home::new(Account::Own).expect("a directory for the proxy");
        let port = free_port();
        let mut command = Account::Own.command(executable());
        command
            .env("HOME", home.path())
            .env("PGHERD_WORKERS__COUNT", "2");
        if let Some(config) = config {
            write(&home, config, port);
            command.arg("--config").arg(home.join("pgherd.toml"));
        }
        prepare(&mut command, port);
        let daemon = Daemon::spawn("pgherd", command, &mut home).expect("the executable starts");
        let mut proxy = Self { daemon, home, port };
        proxy.wait_until_up().await;
        proxy
    }

    async fn wait_until_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(
                !self.daemon.ended(),
                "pgherd ended at its start:\n{}",
                self.log()
            );
            assert!(
                Instant::now() < deadline,
                "pgherd does not listen:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Gives the number of the process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Gives a path in the proxy's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Gives a URL whose password is the user's name.
    pub fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres://{user}:{user}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Connects a client.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn client(&self, user: &str, database: &Database) -> Client {
        connect(&self.url(user, &database.name)).await
    }

    /// Writes another configuration into the file, for a reload.
    pub fn rewrite(&self, config: &Config) {
        write(&self.home, config, self.port);
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.daemon.pid())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.expect("a process number"), signal).expect("the process takes a signal");
    }

    /// Waits for the end of the process, and gives how it ended.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn wait(&mut self) -> ExitStatus {
        self.daemon.wait(PATIENCE).await.expect("pgherd ends");
        self.daemon.status().expect("it has ended")
    }

    /// Tells whether the process has ended.
    pub fn ended(&mut self) -> bool {
        self.daemon.ended()
    }

    /// Gives all that was logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Waits until a text was logged so many times: what a client sees may come before its log.
    ///
    /// # Panics
    /// If it is not.
    pub async fn logged(&self, text: &str, times: usize) {
        let what = format!("\"{text}\" is logged");
        until(&what, async || self.log().matches(text).count() >= times).await;
    }

    /// Gives the CPU time of all threads, in steps of 10 ms (`utime` and `stime` of `proc(5)`, in
    /// ticks of USER_HZ, which is 100 on every Linux that programs see).
    ///
    /// # Panics
    /// If the process is gone.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon.pid()));
        let stat = stat.expect("the process lives");
        let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(|number| number.parse::<u64>().expect("a number"));
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// Gives the memory that the process has in use, in bytes (VmRSS of `proc(5)`).
    ///
    /// # Panics
    /// If the process is gone.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it has ever had in use, in bytes.
    ///
    /// # Panics
    /// If the system does not tell.
    pub fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// A line of what the system says of the process, in bytes.
    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.pid()));
        let status = status.expect("the process lives");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes
            .and_then(|number| number.parse::<u64>().ok())
            .expect("a number of kB")
            * 1024
    }
}

/// Raises the limit of open files as far as allowed, for this process and those it starts.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is refused, a test with many clients says so by failing.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn write(home: &Home, config: &Config, port: u16) {
    let dir = home.path().display().to_string();
    let text = config
        .text
        .replace("{port}", &port.to_string())
        .replace("{dir}", &dir);
    fs::write(home.join("pgherd.toml"), text).expect("the configuration is written");
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.daemon.status();
        self.daemon.kill();
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "--- the end of pgherd's log{}\n{}\n---",
                ended.map_or_else(String::new, |how| format!(", which ended by itself: {how}")),
                last.join("\n")
            );
        } else {
            assert!(!log.contains("panicked"), "pgherd panicked:\n{log}");
        }
    }
}
