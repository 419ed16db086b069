//! Transactions over several shards.

use pgherd_telemetry::{Exposition, ExpositionError};

use crate::transactions::Transactions;

/// What there is to see of them.
#[derive(Debug, Clone, Default)]
pub struct TransactionSights {
    live: usize,
    in_doubt: usize,
    counts: Vec<(&'static str, u64)>,
}

impl TransactionSights {
    /// What there is to see now.
    pub fn of(transactions: &Transactions) -> Self {
        let counts = transactions.counts();
        Self {
            live: transactions.live().len(),
            in_doubt: transactions.doubts().len(),
            counts: counts.map(|(what, count)| (what.name(), count)).collect(),
        }
    }
}

pub(super) fn write(
    page: &mut Exposition,
    sights: &TransactionSights,
) -> Result<(), ExpositionError> {
    page.gauge(
        "pgherd_shard_transactions_committing",
        "Transactions over several shards that are being committed.",
        &[],
        sights.live as f64,
    )?;
    page.gauge(
        "pgherd_shard_transactions_in_doubt",
        "Parts of transactions over several shards that were found prepared, without a coordinator here.",
        &[],
        sights.in_doubt as f64,
    )?;
    for (outcome, count) in &sights.counts {
        page.counter(
            "pgherd_shard_transactions_total",
            "What became of transactions over several shards, and of parts that were left prepared.",
            &[("outcome", outcome)],
            *count,
        )?;
    }
    Ok(())
}
