//! Where a statement may run and how its answers become one.
//!
//! The promise: what comes of a [`Plan`] is what one Postgres with all rows would give, or the statement is
//! refused (0A000) before anything ran. Nothing is sent to several shards because no rule was found; each rule
//! that lets it is written down in `analyze`, and tried by `tests/sharding`.
//!
//! [`placement`] says where rows live, [`catalog`] what names mean. [`plan`] reads a statement once; the
//! [`Statement`] that it gives is immutable, is the same for as long as the text, [`Names`], [`Catalog`] and
//! [`Placement`] are, and tells for each Bind where it goes without parsing anything but keys.
//!
//! ```
//! use std::sync::Arc;
//! use pgherd_planner::catalog::Catalog;
//! use pgherd_planner::placement::{Distribution, Method, Placement, Sharding};
//! use pgherd_planner::{Names, Param, Params, Route, plan};
//!
//! # fn example(catalog: &Catalog) -> Result<(), Box<dyn std::error::Error>> {
//! let mut placement = Placement::new(4);
//! let group = placement.group(Method::hash(4))?;
//! let columns = vec!["user_id".to_owned()];
//! placement.table("public", "orders", Distribution::Sharded(Sharding { columns, group }));
//! placement.table("public", "products", Distribution::Replicated);
//! let placement = Arc::new(placement);
//!
//! let text = "SELECT * FROM orders WHERE user_id = $1";
//! let statement = plan(text, &Names::default(), catalog, &placement);
//! let seven = Param { oid: 20, binary: false, value: Some(b"7") };
//! let params = Params { values: &[seven], foreign_encoding: false };
//! match statement.route(&params)? {
//!     Route::One(shard) => println!("as it is to shard {}", shard.0),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `now()` is one value for all shards: [`Route::At`] has a text in which it is a parameter.
//!
//! What cannot be put together from the shards' answers is brought to one server ([`Route::Pull`]): carriers are filled
//! there with the rows of tables or whole parts of the query, and the rest of the query runs behind them.
//! [`Statement::explain`] tells a plan step by step. [`Statement::only`] is the short way of what has its rows on one shard,
//! and [`Slots`] has one plan do for texts that differ in their literals.
//!
//! What the caller has to see to: the settings that texts and values depend on (`DateStyle`, `TimeZone`,
//! `standard_conforming_strings = on`, …) are the same on all connections; the catalogs of all shards are the
//! same ([`Catalog::differences`]); rows are where the placement says (`satisfies_hash_partition`); who has
//! temporary tables says so in [`Names`].
//!
//! [`Catalog`]: catalog::Catalog
//! [`Catalog::differences`]: catalog::Catalog::differences
//! [`Placement`]: placement::Placement

mod analyze;
pub mod catalog;
mod compose;
pub mod copy;
pub mod placement;
mod plan;
mod refusal;
mod resolve;
mod slots;
#[cfg(test)]
mod tests;
mod tree;

pub use compose::plan;
pub use plan::{
    CHANGED, CopyIn, CopyOut, CopyTarget, Count, Deal, Dealt, Format, Hint, Key, Merge, Moved,
    Param, Params, Piece, Pins, Plan, Prune, Pull, Pulled, Quoted, Route, Rule, SortKey, Split,
    Statement, Wanted,
};
pub use refusal::Refusal;
pub use resolve::Names;
pub use slots::Slots;
