//! The permits of one connection.

use std::sync::Arc;

use crate::quota::{Asker, Quota};

/// The quotas that a pool's connections count towards at the moment.
pub(crate) type Quotas = Arc<[Arc<Quota>]>;

/// One permit of each quota of a pool, held by a connection, or by an attempt to open one, for as long as it is in
/// the pool; given back when dropped. It belongs to the quotas it was taken from, also when the pool has others by
/// now. It must not be dropped while a lock is held.
pub(crate) struct Permits {
    quotas: Quotas,
    /// How many of the quotas, from the first on, have given their permit.
    taken: usize,
}

/// The limit that has no permit for a pool, and its maximum.
pub(crate) struct Hindrance {
    pub(crate) quota: Arc<Quota>,
    pub(crate) max: usize,
}

impl Permits {
    /// Takes a permit of each, or of none. They are asked in order, and whoever is refused by one has others make room
    /// there: so a limit within another stands before it, or busy pools would close connections for one that can open none
    /// anyway. Where no order tells, the one that has refused the pool `last` does, and is looked at before all others.
    pub(crate) fn take(
        quotas: Quotas,
        last: Option<&Arc<Quota>>,
        asker: &Asker<'_>,
    ) -> Result<Self, Hindrance> {
        let is_last = |quota: &&Arc<Quota>| last.is_some_and(|last| Arc::ptr_eq(last, quota));
        if let Some(quota) = quotas.iter().find(is_last)
            && let Err(max) = quota.look(asker)
        {
            return Err(hinder(&quotas, quota, max, asker));
        }
        let mut permits = Self { quotas, taken: 0 };
        while let Some(quota) = permits.quotas.get(permits.taken) {
            if let Err(max) = quota.take(asker) {
                return Err(hinder(&permits.quotas, quota, max, asker));
            }
            permits.taken += 1;
        }
        Ok(permits)
    }
}

/// One has refused: what the others have told the pool of is for somebody else.
fn hinder(quotas: &Quotas, by: &Arc<Quota>, max: usize, asker: &Asker<'_>) -> Hindrance {
    let others = quotas.iter().filter(|quota| !Arc::ptr_eq(quota, by));
    others.for_each(|quota| quota.pass(asker.pool));
    let quota = Arc::clone(by);
    Hindrance { quota, max }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.quotas
            .iter()
            .take(self.taken)
            .for_each(|quota| quota.release());
    }
}
