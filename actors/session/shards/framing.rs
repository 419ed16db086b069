//! What stands before the first row of a COPY and behind the last, where several shards give the rows: once.

use bytes::BufMut;
use pgherd_session::Flow;
use pgherd_wire::backend::tag;
use pgherd_wire::frame::HEADER_LEN;

use super::gather::End;
use super::legs::Leg;

/// The signature of the binary format; two numbers of four bytes follow it, the second of which says how much
/// else does before the rows.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What has to be here of a message to find the first row in it.
pub(super) const LEAST: usize = HEADER_LEN + SIGNATURE.len() + 8;
/// What ends it.
pub(super) const TRAILER: &[u8] = b"\xff\xff";

/// How rows are framed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Framing {
    /// They are not.
    #[default]
    Plain,
    /// There is a line with the columns' names before them.
    Header,
    /// It is the binary format.
    Binary,
}

/// Passes the first message of a leg's COPY on, which has so many bytes: of the first leg with what stands before the
/// rows, of others without. What the binary format begins with is `head` up to the first row: clients take it for a part of
/// that.
pub(super) fn begin(
    leg: &mut Leg,
    framing: Framing,
    total: usize,
    first: bool,
    head: &mut Vec<u8>,
) -> Result<(), End> {
    match framing {
        Framing::Header if !first => leg.lease.flow.hide(total),
        Framing::Plain | Framing::Header => leg.lease.flow.pass(total),
        Framing::Binary => {
            let begun = begin_binary(&mut leg.lease.flow, total, first, head);
            begun.ok_or_else(|| leg.broken())?;
        }
    }
    Ok(())
}

/// The same of a message in the binary format, of which at least what stands before the first row is here: that row may be
/// as large as memory is, and does not stay. Nothing if it begins otherwise.
fn begin_binary(flow: &mut Flow, total: usize, first: bool, head: &mut Vec<u8>) -> Option<()> {
    let here = flow.unjudged();
    let data = here.get(HEADER_LEN..total.min(here.len()))?;
    let (before, rows) = split(data)?;
    let (before, ends) = (before.to_vec(), rows == TRAILER);
    let length = HEADER_LEN + before.len();
    if first {
        *head = before;
    }
    // Where it ends, all of it is here.
    let rest = total - length;
    if ends && rest == TRAILER.len() {
        flow.hide(total);
        return Some(());
    }
    flow.hide(length);
    let size = u32::try_from(head.len() + rest + 4).ok()?;
    let out = flow.made();
    out.put_u8(tag::COPY_DATA);
    out.put_u32(size);
    out.extend_from_slice(&std::mem::take(head));
    flow.pass(rest);
    Some(())
}

/// Passes a later message on, unless it is what ends the rows.
pub(super) fn go_on(leg: &mut Leg, framing: Framing, total: usize) {
    let here = leg.lease.flow.unjudged();
    let ends = framing == Framing::Binary && here.get(5..total) == Some(TRAILER);
    match ends {
        true => leg.lease.flow.hide(total),
        false => leg.lease.flow.pass(total),
    }
}

/// What stands before the rows, and the rest.
fn split(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let behind = data.strip_prefix(SIGNATURE)?;
    let more = behind.get(4..8)?;
    let more = u32::from_be_bytes(more.try_into().ok()?);
    let length = (SIGNATURE.len() + 8).checked_add(usize::try_from(more).ok()?)?;
    data.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use pgherd_session::Flow;

    use super::{begin_binary, split};

    const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

    /// A message in which this stands behind what the format begins with; a part of it.
    fn begun(rows: &[u8], missing: usize) -> (Flow, usize) {
        let mut flow = Flow::default();
        let length = u32::try_from(HEAD.len() + rows.len() + 4).unwrap();
        let parts = [&b"d"[..], &length.to_be_bytes(), HEAD, rows].concat();
        let total = parts.len();
        flow.buffer.extend_from_slice(&parts[..total - missing]);
        (flow, total)
    }

    #[test]
    fn a_first_row_goes_on_before_it_is_here() {
        let mut head = Vec::new();
        // The first shard has none: what stands before is that of the next one's.
        let (mut flow, total) = begun(b"\xff\xff", 0);
        begin_binary(&mut flow, total, true, &mut head).unwrap();
        assert_eq!((flow.backlog(), flow.is_mid_message()), (0, false));
        assert_eq!(head, HEAD);
        for (before, missing) in [(true, 5), (false, 0), (false, 7)] {
            let (mut flow, total) = begun(b"\0\x01a row", missing);
            begin_binary(&mut flow, total, false, &mut head).unwrap();
            assert_eq!(flow.is_mid_message(), missing > 0);
            let row = &b"\0\x01a row"[..];
            flow.buffer.extend_from_slice(&row[row.len() - missing..]);
            assert!(flow.resume());
            let head: &[u8] = if before { HEAD } else { &[] };
            let length = u32::try_from(head.len() + row.len() + 4).unwrap();
            let expected = [&b"d"[..], &length.to_be_bytes(), head, row].concat();
            assert_eq!(flow.copy_to_bytes(flow.remaining())[..], expected);
        }
        let (mut flow, total) = begun(b"", 1);
        assert_eq!(begin_binary(&mut flow, total, true, &mut head), None);
    }

    #[test]
    fn the_binary_format_begins_with_its_header() {
        let data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02abrow";
        let (head, rows) = split(data).unwrap();
        assert_eq!((head.len(), rows), (21, &b"row"[..]));
        assert_eq!(split(b"PGCOPX"), None);
    }
}
