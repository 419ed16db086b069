use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::runtime::{Builder, Runtime};

use crate::socket::Socket;
use crate::testing::{pair, tls_pair};
use crate::{Peer, Stream, poll_read_into, poll_write_from};

#[test]
fn an_idle_stream_is_small() {
    assert!(size_of::<Stream>() <= 16);
    assert!(size_of::<Socket>() <= 64);
}

#[tokio::test]
async fn a_stream_knows_its_ends() {
    let (near, far) = pair().await;
    assert_eq!(near.peer(), Peer::Tcp(far.local().unwrap()));
    assert_eq!(far.peer(), Peer::Tcp(near.local().unwrap()));
    assert!(near.tls_info().is_none());
}

#[tokio::test]
async fn readable_waits_and_reads_nothing() {
    for (mut near, mut far) in [pair().await, tls_pair().await] {
        let pending = poll_fn(|cx| Poll::Ready(near.poll_readable(cx).is_pending())).await;
        assert!(pending);
        far.write_all(b"ab").await.unwrap();
        far.flush().await.unwrap();
        poll_fn(|cx| near.poll_readable(cx)).await.unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).await.unwrap();
        // Under TLS the second byte is no longer in the socket.
        poll_fn(|cx| near.poll_readable(cx)).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'b');
    }
}

#[tokio::test]
async fn a_look_tells_silence_from_data_from_the_end() {
    for (mut near, mut far) in [pair().await, tls_pair().await] {
        let mut buf = [0; 8];
        assert_eq!(
            near.try_read(&mut buf).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        far.write_all(b"boo").await.unwrap();
        // No await between: the runtime has not looked, the system is asked.
        assert_eq!(near.try_read(&mut buf).unwrap(), 3);
        far.shutdown().await.unwrap();
        assert_eq!(near.try_read(&mut buf).unwrap(), 0);
    }
}

#[tokio::test]
async fn a_peek_leaves_the_byte() {
    for (mut near, mut far) in [pair().await, tls_pair().await] {
        far.write_all(b"xy").await.unwrap();
        assert_eq!(near.peek_first().await.unwrap(), Some(b'x'));
        let mut buf = [0; 2];
        near.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"xy");
        far.shutdown().await.unwrap();
        assert_eq!(near.peek_first().await.unwrap(), None);
    }
}

#[tokio::test]
async fn tls_cut_off_is_not_an_end() {
    let (mut near, far) = tls_pair().await;
    drop(far);
    let error = near.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_killer_wakes_a_pending_read() {
    for (mut near, far) in [pair().await, tls_pair().await] {
        let killer = near.killer();
        let (polled, waits) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut buf = [0; 1];
            let mut read = pin!(near.read(&mut buf));
            let mut polled = Some(polled);
            poll_fn(|cx| {
                let outcome = read.as_mut().poll(cx);
                if let Some(polled) = polled.take() {
                    assert!(outcome.is_pending());
                    polled.send(()).unwrap();
                }
                outcome
            })
            .await
        });
        waits.await.unwrap();
        let once_more = killer.clone();
        assert!(thread::spawn(move || killer.kill()).join().unwrap());
        match task.await.unwrap() {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
        }
        assert!(!once_more.kill(), "a killer does not keep the socket open");
        drop(far);
    }
}

/// The near end leaves its runtime in mid-stream, with bytes under way; its first runtime is gone when it goes on.
fn rehomes(
    connect: impl AsyncFnOnce() -> (Stream, Stream),
    mut go_over: impl FnMut(Stream) -> Stream + Send + 'static,
) {
    let first = runtime();
    let (mut near, mut far) = first.block_on(connect());
    first.block_on(async {
        far.write_all(b"hello").await.unwrap();
        let mut start = [0; 2];
        near.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"he");
    });
    let old_killer = near.killer();
    let (moved, wait) = mpsc::channel();
    let (gone, go) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        runtime().block_on(async {
            let (mut near, mut far) = (go_over(near), go_over(far));
            assert!(!old_killer.kill());
            moved.send(()).unwrap();
            go.recv().unwrap();
            let mut rest = [0; 3];
            near.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"llo");
            near.write_all(b"thanks").await.unwrap();
            near.flush().await.unwrap();
            let mut got = [0; 6];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"thanks");
            assert!(near.killer().kill());
            assert!(matches!(near.read(&mut rest).await, Ok(0) | Err(_)));
        });
    });
    wait.recv().unwrap();
    drop(first);
    gone.send(()).unwrap();
    thread.join().unwrap();
}

fn by_value(stream: Stream) -> Stream {
    stream.rehome().unwrap()
}

fn in_place(mut stream: Stream) -> Stream {
    stream.move_here().unwrap();
    stream
}

#[test]
fn a_plain_stream_moves_between_runtimes() {
    rehomes(pair, by_value);
    rehomes(pair, in_place);
}

#[test]
fn a_tls_stream_moves_between_runtimes() {
    rehomes(tls_pair, by_value);
    rehomes(tls_pair, in_place);
}

#[tokio::test]
async fn no_memory_is_reserved_while_nothing_is_there() {
    for (mut near, mut far) in [pair().await, tls_pair().await] {
        let mut buf = BytesMut::new();
        let pending =
            poll_fn(|cx| Poll::Ready(poll_read_into(&mut near, cx, &mut buf, 8192).is_pending()))
                .await;
        assert!(pending);
        assert_eq!(buf.capacity(), 0);
        far.write_all(b"abcdef").await.unwrap();
        let count = poll_fn(|cx| poll_read_into(&mut near, cx, &mut buf, 4))
            .await
            .unwrap();
        assert_eq!((count, &buf[..]), (4, &b"abcd"[..]));
        let count = poll_fn(|cx| poll_read_into(&mut near, cx, &mut buf, 8192))
            .await
            .unwrap();
        assert_eq!((count, &buf[..]), (2, &b"abcdef"[..]));
    }
}

#[tokio::test]
async fn many_chunks_go_out_in_order() {
    for (mut near, mut far) in [pair().await, tls_pair().await] {
        let mut chunks =
            Bytes::from_static(b"one ").chain(Bytes::from_static(b"two ").chain(&b"three"[..]));
        poll_fn(|cx| poll_write_from(&mut near, cx, &mut chunks))
            .await
            .unwrap();
        assert!(!chunks.has_remaining());
        let mut got = [0; 13];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two three");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Writes `data` in pieces of the given sizes, one after the other and over again.
async fn write_in_pieces(mut out: impl AsyncWriteExt + Unpin, mut data: &[u8], sizes: &[usize]) {
    for size in sizes.iter().cycle() {
        if data.is_empty() {
            break;
        }
        let (piece, rest) = data.split_at(data.len().min(*size));
        out.write_all(piece).await.unwrap();
        data = rest;
    }
    out.shutdown().await.unwrap();
}

async fn read_in_pieces(mut input: impl AsyncReadExt + Unpin, sizes: &[usize]) -> Vec<u8> {
    let mut got = Vec::new();
    for size in sizes.iter().cycle() {
        let mut piece = vec![0; *size];
        match input.read(&mut piece).await.unwrap() {
            0 => break,
            count => got.extend_from_slice(&piece[..count]),
        }
    }
    got
}

/// What is written at both ends at once arrives at the other as it was, whatever the sizes.
async fn exchange(near: Stream, far: Stream, data: &[u8], sizes: [&[usize]; 3]) {
    let back: Vec<u8> = data.iter().rev().copied().collect();
    let ((near_in, near_out), (far_in, far_out)) = (split(near), split(far));
    let ((), there, (), here) = tokio::join!(
        write_in_pieces(near_out, data, sizes[0]),
        read_in_pieces(far_in, sizes[1]),
        write_in_pieces(far_out, &back, sizes[2]),
        read_in_pieces(near_in, sizes[1]),
    );
    assert!(there == data, "bytes differ on the way there");
    assert!(here == back, "bytes differ on the way back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn large_transfers_arrive_whole(
        length in 0_usize..1_500_000,
        write in proptest::collection::vec(1_usize..70_000, 1..8),
        read in proptest::collection::vec(1_usize..70_000, 1..8),
        back in proptest::collection::vec(1_usize..70_000, 1..8),
    ) {
        let data: Vec<u8> = (0..length).map(|place| (place * 31 % 251) as u8).collect();
        runtime().block_on(async {
            for (near, far) in [pair().await, tls_pair().await] {
                exchange(near, far, &data, [&write, &read, &back]).await;
            }
        });
    }
}
