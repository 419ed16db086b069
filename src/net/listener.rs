//! Waiting for clients.

use std::fs;
use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::{
    self,
    fs::{FileTypeExt, MetadataExt, PermissionsExt},
};
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::deadline::Deadline;
use crate::memory::{Arrivals, Wire};
use crate::options::SocketOptions;
use crate::socket::Socket;
use crate::stream::Stream;

/// Why nobody can be waited for.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The TCP address or the path of the socket.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody listens on this unix socket, or the file is not a socket at all.
    #[error("{path} is in use")]
    InUse {
        /// The path of the socket.
        path: String,
    },
}

/// A listening socket. A unix socket's file is removed when the listener is dropped.
///
/// What it accepts belongs to no runtime yet: the connection joins the one in which [`Accepted::into_stream`] is
/// called.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    Memory(Arrivals, SocketAddr),
}

impl Listener {
    /// Listens on a TCP address; port 0 takes a free one. With `reuse_port` several listeners, also of several
    /// processes, share the address. Call it in a runtime.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub fn bind(address: SocketAddr, backlog: u32, reuse_port: bool) -> Result<Self, ListenError> {
        match bind_tcp(address, backlog, reuse_port) {
            Ok(listener) => Ok(Self {
                socket: ListenSocket::Tcp(listener),
            }),
            Err(source) => Err(ListenError::Bind {
                address: address.to_string(),
                source,
            }),
        }
    }

    /// Listens on `directory/.s.PGSQL.port`, as PostgreSQL does, with the given permissions (such as `0o777`). A
    /// socket file left behind is removed if nobody answers there. Call it in a runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind_unix(
        directory: &Path,
        port: u16,
        backlog: u32,
        mode: u32,
    ) -> Result<Self, ListenError> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        let bind = || match is_taken(&path)? {
            true => Ok(None),
            false => bind_path(&path, backlog, mode).map(Some),
        };
        let address = path.display().to_string();
        match bind() {
            Ok(Some((listener, file))) => Ok(Self {
                socket: ListenSocket::Unix(listener, file),
            }),
            Ok(None) => Err(ListenError::InUse { path: address }),
            Err(source) => Err(ListenError::Bind { address, source }),
        }
    }

    /// Takes who comes over a simulated network to this address.
    #[must_use]
    pub const fn simulated(arrivals: Arrivals, address: SocketAddr) -> Self {
        Self {
            socket: ListenSocket::Memory(arrivals, address),
        }
    }

    /// The address listened on, with the port the kernel chose; `None` for a unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.socket {
            ListenSocket::Tcp(listener) => listener.local_addr().ok(),
            ListenSocket::Unix(..) => None,
            ListenSocket::Memory(_, address) => Some(*address),
        }
    }

    /// The path of the socket file; `None` for TCP.
    pub fn path(&self) -> Option<&Path> {
        match &self.socket {
            ListenSocket::Tcp(_) | ListenSocket::Memory(..) => None,
            ListenSocket::Unix(_, file) => Some(&file.path),
        }
    }

    /// Waits for the next client. Dropping the future loses nobody.
    ///
    /// # Errors
    /// What the kernel says; with no descriptor left (`EMFILE`, `ENFILE`) the client stays in the queue, so wait a
    /// moment before the next try. A client that left meanwhile is passed over in silence.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            match self.accept_one().await {
                Err(error) if passes(&error) => {}
                outcome => return outcome,
            }
        }
    }

    async fn accept_one(&self) -> io::Result<Accepted> {
        let socket = match &self.socket {
            ListenSocket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                AcceptedSocket::Tcp(stream.into_std()?, address)
            }
            ListenSocket::Unix(listener, _) => {
                AcceptedSocket::Unix(listener.accept().await?.0.into_std()?)
            }
            ListenSocket::Memory(arrivals, _) => AcceptedSocket::Memory(arrivals.next().await),
        };
        Ok(Accepted { socket })
    }
}

fn bind_tcp(address: SocketAddr, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = RawSocket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    TcpListener::from_std(listen(socket, backlog)?.into())
}

fn bind_path(path: &Path, backlog: u32, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Before it listens: nobody comes in under other permissions than these.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let listener = UnixListener::from_std(listen(socket, backlog)?.into())?;
    Ok((listener, file))
}

fn listen(socket: RawSocket, backlog: u32) -> io::Result<RawSocket> {
    socket.set_nonblocking(true)?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Linux reports the network errors of a connection that is being accepted as errors of `accept` (accept(2)).
fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | HostUnreachable
    )
}

/// Whether the path belongs to somebody; a socket nobody listens on is removed.
fn is_taken(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => return Ok(true),
        Ok(_) => {}
    }
    let probe = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full queue must not block us: it would say EAGAIN, and that somebody is there.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)?;
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        _ => Ok(true),
    }
}

/// The file of a unix socket, known by device and inode: a successor may have put its own in the same place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.dev() == self.device && metadata.ino() == self.inode);
        if ours {
            // Nobody is left to be told; the next listener removes a stale file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A client that is connected and not yet registered with any runtime.
#[derive(Debug)]
pub struct Accepted {
    socket: AcceptedSocket,
}

#[derive(Debug)]
enum AcceptedSocket {
    Tcp(net::TcpStream, SocketAddr),
    Unix(unix::net::UnixStream),
    Memory(Wire),
}

impl Accepted {
    /// The client's TCP address; `None` if it came by a unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            AcceptedSocket::Tcp(_, address) => Some(*address),
            AcceptedSocket::Unix(_) => None,
            AcceptedSocket::Memory(wire) => Some(wire.far()),
        }
    }

    /// Sets the options and registers the connection with the current runtime.
    ///
    /// # Errors
    /// What the system says; the client may be gone already.
    pub fn into_stream(self, options: &SocketOptions) -> io::Result<Stream> {
        Ok(Stream::plain(match self.socket {
            AcceptedSocket::Tcp(socket, _) => {
                options.apply(&SockRef::from(&socket))?;
                // A client that does not read for so long is given up, if that is wanted.
                Socket::Tcp(TcpStream::from_std(socket)?, Deadline::default())
            }
            AcceptedSocket::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
            AcceptedSocket::Memory(wire) => Socket::Memory(wire),
        }))
    }
}

#[cfg(test)]
mod tests;
