use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn judges_every_declared_length() {
    for (length, body) in [
        (4, Some(0)),
        (5, Some(1)),
        (MAX_MESSAGE + 4, Some(MAX_MESSAGE)),
    ] {
        let bytes = frame_of(length);
        assert_eq!(header(&bytes).unwrap().map(|header| header.body), body);
    }
    for length in [0, 1, 3, MAX_MESSAGE + 5, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        assert_eq!(
            header(&frame_of(length)),
            Err(FrameError { tag: b'Q', length })
        );
    }
    assert_eq!(header(&frame_of(9)[..4]), Ok(None));
}

fn frame_of(length: u32) -> Vec<u8> {
    let mut bytes = vec![b'Q'];
    bytes.extend(length.to_be_bytes());
    bytes
}

#[test]
fn a_message_that_is_too_long_leaves_nothing_behind() {
    let mut out = BytesMut::from(&b"before"[..]);
    for (body, room) in [(7, false), (6, true)] {
        let start = begin(&mut out, b'Q');
        out.extend_from_slice(&[0; 9][..body]);
        assert_eq!(start.finish_within(&mut out, 10).is_ok(), room);
        assert_eq!(out.len(), if room { 6 + HEADER_LEN + body } else { 6 });
    }
    assert!(fits(MAX_MESSAGE as usize - 4).is_ok());
    assert_eq!(
        fits(MAX_MESSAGE as usize - 3),
        Err(TooLong(MAX_MESSAGE as usize - 3))
    );
}

#[test]
fn a_string_ends_at_its_first_nul() {
    let mut out = BytesMut::new();
    put_string(&mut out, b"a\0b");
    assert_eq!(out, b"a\0"[..]);
}

/// Reads frames from bytes that arrive in pieces.
fn frames(pieces: &[&[u8]]) -> Vec<(u8, Vec<u8>)> {
    let (mut pending, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        pending.extend_from_slice(piece);
        while let Some(header) = header(&pending).unwrap() {
            if pending.len() < header.total() {
                break;
            }
            found.push((header.tag, pending[HEADER_LEN..header.total()].to_vec()));
            pending.drain(..header.total());
        }
    }
    assert!(pending.is_empty());
    found
}

proptest! {
    #[test]
    fn every_split_gives_the_same_frames(
        messages in vec((any::<u8>(), vec(any::<u8>(), 0..20)), 0..6),
    ) {
        let mut out = BytesMut::new();
        for (tag, body) in &messages {
            build(&mut out, *tag, |out| out.extend_from_slice(body)).unwrap();
        }
        for at in 0..=out.len() {
            prop_assert_eq!(&frames(&[&out[..at], &out[at..]]), &messages);
        }
        let bytes: Vec<&[u8]> = out.chunks(1).collect();
        prop_assert_eq!(&frames(&bytes), &messages);
    }
}
