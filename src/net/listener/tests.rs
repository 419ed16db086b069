use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{ListenError, Listener};
use crate::testing::{accept, listener};
use crate::{ConnectError, Peer, SocketOptions, Target, connect};

#[tokio::test]
async fn an_address_is_taken_once_or_shared() {
    let (first, _) = listener();
    let address = first.local().unwrap();
    assert!(matches!(
        Listener::bind(address, 16, false),
        Err(ListenError::Bind { .. })
    ));
    let free = "127.0.0.1:0".parse().unwrap();
    let shared = Listener::bind(free, 16, true).unwrap();
    Listener::bind(shared.local().unwrap(), 16, true).unwrap();
}

#[tokio::test]
async fn a_client_tells_its_address_before_it_joins_a_runtime() {
    let (listener, target) = listener();
    let near = connect(&target, &SocketOptions::default()).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.address(), near.local());
}

#[tokio::test]
async fn a_unix_socket_serves_and_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let listener = Listener::bind_unix(folder.path(), 6432, 16, 0o770).unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    assert_eq!(listener.path(), Some(path.as_path()));
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o770
    );

    let target = Target::Unix { path: path.clone() };
    let mut near = connect(&target, &SocketOptions::default()).await.unwrap();
    let mut far = accept(&listener).await;
    let Peer::Unix { pid, uid } = far.peer() else {
        panic!("not a unix peer: {}", far.peer());
    };
    assert_eq!(pid, i32::try_from(std::process::id()).ok());
    assert_eq!(uid, owner(&path));
    far.write_all(b"hi").await.unwrap();
    assert_eq!(near.peek_first().await.unwrap(), Some(b'h'));
    let mut near = near.rehome().unwrap();
    let mut got = [0; 2];
    near.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hi");

    drop(listener);
    assert!(!path.exists());
    let error = connect(&target, &SocketOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

/// We made the file, so its owner is who we are.
fn owner(path: &std::path::Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap())
}

#[tokio::test]
async fn a_stale_file_is_removed_and_a_live_one_is_not() {
    let folder = tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    let other = UnixListener::bind(&path).unwrap();
    let bind = || Listener::bind_unix(folder.path(), 6432, 16, 0o777);
    assert!(matches!(bind(), Err(ListenError::InUse { .. })));
    drop(other);
    assert!(path.exists());
    bind().unwrap();

    fs::write(&path, "mine").unwrap();
    assert!(matches!(bind(), Err(ListenError::InUse { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[tokio::test]
async fn a_successors_file_stays() {
    let folder = tempdir().unwrap();
    let listener = Listener::bind_unix(folder.path(), 6432, 16, 0o777).unwrap();
    let path = folder.path().join(".s.PGSQL.6432");
    // Moved into place, so that the inode is another one for certain.
    let successor = folder.path().join("successor");
    let _other = UnixListener::bind(&successor).unwrap();
    fs::rename(&successor, &path).unwrap();
    drop(listener);
    assert!(path.exists());
}
