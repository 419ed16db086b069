//! What clients that wait for a server have sent: the proxy keeps it for them, and there is a bound for all of it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// So much of each client is kept without being counted: the number of those who wait has a bound, too.
pub const SMALL: usize = 16 * 1024;

/// How many bytes are kept for those of whom it is more than [`SMALL`].
#[derive(Debug, Default)]
pub struct Keeping(AtomicUsize);

impl Keeping {
    /// So many.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is kept for one client, for as long as it waits.
#[derive(Debug)]
pub struct Kept<'a> {
    all: &'a Keeping,
    bytes: usize,
}

impl<'a> Kept<'a> {
    /// Nothing yet.
    pub const fn new(all: &'a Keeping) -> Self {
        Self { all, bytes: 0 }
    }

    /// Keeps so much for it; false if that is not to be, as with it there were more than `most` for all.
    #[must_use]
    pub fn fits(&mut self, bytes: usize, most: usize) -> bool {
        // For nearly all that is all that there is to do.
        if bytes <= SMALL || bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        let before = self.all.0.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > most {
            self.all.0.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Keeping, Kept, SMALL};

    #[test]
    fn what_is_kept_for_all_has_a_bound_and_is_given_back() {
        let all = Keeping::default();
        let most = 4 * SMALL;
        let (mut one, mut two) = (Kept::new(&all), Kept::new(&all));
        assert!(one.fits(SMALL, 0), "little is not counted");
        assert_eq!(all.bytes(), 0);
        assert!(one.fits(2 * SMALL, most));
        assert!(one.fits(3 * SMALL, most));
        assert_eq!(all.bytes(), 3 * SMALL);
        assert!(one.fits(2 * SMALL, most), "it has that");
        assert!(!two.fits(2 * SMALL, most));
        assert_eq!(all.bytes(), 3 * SMALL);
        drop(one);
        assert!(two.fits(2 * SMALL, most));
        drop(two);
        assert_eq!(all.bytes(), 0);
    }
}
