//! The proxy's executable, watched from outside.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy; killed when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    home: TempDir,
    address: SocketAddr,
}

impl Proxy {
    /// Starts the executable with a configuration that does not say where to listen.
    ///
    /// # Errors
    /// As the system says; or with the end of its output, if it does not come to listen.
    pub async fn start(executable: &str, settings: &str) -> io::Result<Self> {
        let home = TempDir::new()?;
        let port = pgherd_sandbox::free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let file = home.path().join("pgherd.toml");
        fs::write(
            &file,
            format!("[listen]\naddresses = [\"{address}\"]\n\n{settings}"),
        )?;
        let output = File::create(home.path().join("output"))?;
        let child = Command::new(executable)
            .arg("--config")
            .arg(&file)
            .env_clear()
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut proxy = Self {
            child,
            home,
            address,
        };
        proxy.listens().await?;
        Ok(proxy)
    }

    async fn listens(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            if !self.is_alive() || Instant::now() > deadline {
                return Err(io::Error::other(format!(
                    "it does not listen: {}",
                    self.output()
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of its configuration.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written.
    pub fn output(&self) -> String {
        let raw = fs::read(self.home.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&raw).into_owned()
    }

    /// The first lines about a panic, or what else is wrong with the process.
    pub fn fault(&mut self) -> Option<String> {
        if !self.is_alive() {
            return Some(format!("it has ended: {}", self.output()));
        }
        let output = self.output();
        let at = output.find("panicked")?;
        let start = output[..at].rfind('\n').unwrap_or(0);
        Some(output[start..].chars().take(3000).collect())
    }

    /// Its resident memory, in bytes (`VmRSS` of `/proc/PID/status`).
    pub fn memory(&self) -> usize {
        self.figure("VmRSS:") * 1024
    }

    /// Its address space, in bytes: also what was allocated and never touched.
    pub fn address_space(&self) -> usize {
        self.figure("VmSize:") * 1024
    }

    /// Its threads.
    pub fn threads(&self) -> usize {
        self.figure("Threads:")
    }

    fn figure(&self, name: &str) -> usize {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_default()
    }

    /// Its open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(self.proc("fd")).map_or(0, Iterator::count)
    }

    /// The TCP addresses on which it listens.
    pub fn listening(&self) -> Vec<SocketAddr> {
        let table = ["net/tcp", "net/tcp6"].map(|name| fs::read_to_string(self.proc(name)));
        let sockets: Vec<String> = fs::read_dir(self.proc("fd"))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                fs::read_link(entry.ok()?.path())
                    .ok()?
                    .into_os_string()
                    .into_string()
                    .ok()
            })
            .collect();
        let own = |inode: &str| sockets.contains(&format!("socket:[{inode}]"));
        table
            .iter()
            .flatten()
            .flat_map(|text| text.lines())
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
                (*state == LISTEN && own(inode))
                    .then(|| address(local))
                    .flatten()
            })
            .collect()
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.child.id())
    }

    /// Waits until it has at most this many descriptors; false if it keeps more.
    pub async fn shrinks_to(&self, descriptors: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.descriptors() > descriptors {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// An address as `/proc/net/tcp` has it; one of IPv6 counts as "any", which no test wants.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let host = u32::from_str_radix(host, 16).map_or(Ipv4Addr::UNSPECIFIED, |host| {
        Ipv4Addr::from(host.to_ne_bytes())
    });
    Some(SocketAddr::from((host, port)))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
