//! Moving a connection that cannot be given away for it, such as one inside a lease.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};

use super::{Carrier, Stream};
use crate::socket::Socket;

impl Stream {
    /// As [`rehome`](Self::rehome), in place: the socket is registered with the current runtime under a descriptor
    /// of its own, and the old registration is dropped. A [`Killer`](crate::Killer) taken before has no effect any
    /// more.
    ///
    /// # Errors
    /// What the system says, such as that there are no descriptors left; the stream is as it was then.
    pub fn move_here(&mut self) -> io::Result<()> {
        let moved = Arc::new(again(self.socket())?);
        match &mut self.carrier {
            Carrier::Plain(socket) => *socket = moved,
            Carrier::Tls(channel) => channel.carry_on(moved),
        }
        Ok(())
    }
}

fn again(socket: &Socket) -> io::Result<Socket> {
    Ok(match socket {
        Socket::Tcp(stream, deadline) => {
            let descriptor = stream.as_fd().try_clone_to_owned()?;
            Socket::Tcp(TcpStream::from_std(descriptor.into())?, deadline.again())
        }
        Socket::Unix(stream) => {
            let descriptor = stream.as_fd().try_clone_to_owned()?;
            Socket::Unix(UnixStream::from_std(descriptor.into())?)
        }
        Socket::Memory(wire) => Socket::Memory(wire.clone()),
    })
}
