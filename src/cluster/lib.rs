//! What the servers of one database are: roles, epochs, evidence, verdicts, who may be written to.
//!
//! There is no I/O and no clock here: whoever looks at the servers tells the [`Judge`] what was seen and when, and asks
//! it for a [`Verdict`]. The judgement is a function of the newest evidence of each host and of the highest timeline
//! that was ever seen, so that several proxies that see the same come to the same verdict without a word between them.

pub mod aurora;
mod claim;
mod elect;
mod epoch;
mod heads;
mod host;
mod judge;
mod lag;
mod look;
mod lsn;
pub mod names;
pub mod outcome;
pub mod patroni;
mod plan;
pub mod reads;
mod rules;
mod suspicion;
mod track;
mod verdict;

pub use crate::claim::{Claim, Source};
pub use crate::epoch::Epoch;
pub use crate::host::HostName;
pub use crate::judge::{Judge, Unadoptable};
pub use crate::lag::{Lag, LagBounds};
pub use crate::look::{Fault, Look, ServerId, Standing, Storage};
pub use crate::lsn::{InvalidLsn, Lsn, Pages};
pub use crate::plan::{Plan, Stage};
pub use crate::rules::Rules;
pub use crate::suspicion::Doubt;
pub use crate::verdict::{
    Absence, Alarm, Fence, Health, Holder, HostState, Offer, Presence, Verdict, Withheld, Writer,
};

#[cfg(test)]
mod tests;
