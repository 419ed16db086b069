use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Arrivals, Connecting, Network, ROOM, Simulated, Wire};
use crate::{ConnectError, Listener, Peer, SocketOptions, Stream, Target, connect};

fn address(last: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, last), 5432))
}

fn pair() -> (Stream, Stream) {
    let (one, two) = Wire::pair(address(1), address(2));
    (one.into_stream(), two.into_stream())
}

#[tokio::test]
async fn what_is_written_is_read_in_its_order_and_then_the_end() {
    let (mut near, mut far) = pair();
    assert!(far.is_quiet());
    near.write_all(b"one").await.unwrap();
    near.write_all(b" two").await.unwrap();
    assert!(!far.is_quiet());
    assert_eq!(far.peek_first().await.unwrap(), Some(b'o'));
    drop(near);
    let mut all = String::new();
    far.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "one two");
    let error = far.write_all(b"late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn half_of_it_may_end() {
    let (mut near, mut far) = pair();
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    far.write_all(b"still").await.unwrap();
    let mut word = [0; 5];
    near.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"still");
}

#[tokio::test]
async fn who_reads_is_woken_by_bytes_and_by_a_killer() {
    let (mut near, mut far) = pair();
    let killer = far.killer();
    let reading = tokio::spawn(async move {
        let mut byte = [0];
        far.read_exact(&mut byte).await.unwrap();
        (byte, far.read(&mut [0; 8]).await.unwrap())
    });
    tokio::task::yield_now().await;
    near.write_all(b"x").await.unwrap();
    tokio::task::yield_now().await;
    assert!(killer.hang_up());
    let patience = Duration::from_secs(10);
    let read = timeout(patience, reading).await.expect("it ends").unwrap();
    assert_eq!(read, (*b"x", 0));
}

#[tokio::test]
async fn a_reset_loses_what_was_on_its_way() {
    let (one, two) = Wire::pair(address(1), address(2));
    let torn = two.clone();
    let (mut near, mut far) = (one.into_stream(), two.into_stream());
    near.write_all(b"lost").await.unwrap();
    torn.reset();
    for stream in [&mut near, &mut far] {
        let read = stream.read(&mut [0; 8]).await.unwrap_err();
        let written = stream.write(b"x").await.unwrap_err();
        assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(written.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn who_writes_too_much_has_to_wait() {
    let (mut near, mut far) = pair();
    let much = vec![7; ROOM + 1000];
    let writing = tokio::spawn(async move {
        near.write_all(&much).await.unwrap();
        near
    });
    tokio::task::yield_now().await;
    assert!(!writing.is_finished());
    let mut all = vec![0; ROOM + 1000];
    far.read_exact(&mut all).await.unwrap();
    assert!(all.iter().all(|byte| *byte == 7));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_stream_that_moves_goes_on() {
    let (mut near, mut far) = pair();
    near.move_here().unwrap();
    let mut near = near.rehome().unwrap();
    near.write_all(b"here").await.unwrap();
    let mut word = [0; 4];
    far.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"here");
}

/// Has one door, whose name is `open`.
struct OneDoor(tokio::sync::mpsc::Sender<Wire>);

impl Simulated for OneDoor {
    fn connect<'a>(&'a self, target: &'a Target) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = Wire::pair(address(1), address(2));
            match target {
                Target::Tcp { host, .. } if host == "open" => {
                    self.0.send(far).await.map_err(io::Error::other)?;
                    Ok(near)
                }
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

#[tokio::test]
async fn connections_come_from_the_network_that_is_said() {
    let (door, arrivals) = Arrivals::new(4);
    let listener = Listener::simulated(arrivals, address(2));
    assert_eq!(listener.local(), Some(address(2)));
    let options = SocketOptions {
        network: Network::Simulated(Arc::new(OneDoor(door))),
        ..SocketOptions::default()
    };
    let target = |host: &str| Target::Tcp {
        host: host.to_owned(),
        port: 5432,
    };
    let mut near = connect(&target("open"), &options).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.address(), Some(address(1)));
    let mut far = accepted.into_stream(&options).unwrap();
    assert_eq!(
        (far.peer(), near.local()),
        (Peer::Tcp(address(1)), Some(address(1)))
    );
    near.write_all(b"x").await.unwrap();
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 1);
    let error = connect(&target("closed"), &options).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}
