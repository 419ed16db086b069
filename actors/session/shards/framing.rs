//! What stands before the first row of a COPY and behind the last, where several shards give the rows: once.

use pgherd_wire::frontend::copy_data;

use super::gather::End;
use super::legs::Leg;

/// The signature of the binary format; two numbers of four bytes follow it, the second of which says how much
/// else does before the rows.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
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

/// Passes the first message of a leg's COPY on, which is here as a whole and has so many bytes: of the first leg with
/// what stands before the rows, of others without. What the binary format begins with is `head` up to the first row: clients
/// take it for a part of that.
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
            let data = leg.lease.flow.unjudged()[5..total].to_vec();
            let Some((before, rows)) = split(&data) else {
                return Err(leg.broken());
            };
            leg.lease.flow.hide(total);
            if first {
                *head = before.to_vec();
            }
            if rows != TRAILER {
                let whole = [&std::mem::take(head)[..], rows].concat();
                let built = copy_data(leg.lease.flow.made(), &whole);
                debug_assert!(built.is_ok(), "it came in a message");
            }
        }
    }
    Ok(())
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
    use super::split;

    #[test]
    fn the_binary_format_begins_with_its_header() {
        let data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02abrow";
        let (head, rows) = split(data).unwrap();
        assert_eq!((head.len(), rows), (21, &b"row"[..]));
        assert_eq!(split(b"PGCOPX"), None);
    }
}
