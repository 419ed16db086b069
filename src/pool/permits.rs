//! The permits of one connection.

use std::sync::Arc;

use crate::error::Refused;
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

impl Permits {
    /// Takes a permit of each, or of none.
    pub(crate) fn take(quotas: Quotas, asker: &Asker<'_>) -> Result<Self, Refused> {
        let mut permits = Self { quotas, taken: 0 };
        while let Some(quota) = permits.quotas.get(permits.taken) {
            if let Err(max) = quota.take(asker) {
                let name = Arc::clone(quota.name());
                return Err(Refused::Quota { name, max });
            }
            permits.taken += 1;
        }
        Ok(permits)
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.quotas
            .iter()
            .take(self.taken)
            .for_each(|quota| quota.release());
    }
}
