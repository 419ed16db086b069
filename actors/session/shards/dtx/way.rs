//! Where a statement goes, in a transaction over several shards.

use pgherd_planner::{Deal, Moved, Piece, Route};
use pgherd_wire::error::ErrorReport;

use crate::session::shards::plan::unsupported;
use crate::session::shards::request::Request;
use crate::shards::Tier;

/// A route without what it borrows, but for the moment that goes with it.
pub(super) enum Way {
    Any,
    One(u16),
    Concat(Vec<u16>),
    All,
    Pieces(Vec<Piece>),
    Move(Box<Moving>),
    Deal(Box<Dealing>),
    Read(Box<Request>),
}

/// Rows that go from one shard to another.
pub(super) struct Moving {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) how: Moved,
}

/// Rows that are read, and then stored on the shards of their keys.
pub(super) struct Dealing {
    pub(super) request: Request,
    pub(super) how: Deal,
}

/// A way, and the text and the number of its parameter where the time is one.
pub(super) type Timed = (Way, Option<(String, u32)>);

impl Way {
    pub(super) fn tier(&self) -> Tier {
        match self {
            Self::Any | Self::One(_) => Tier::OneShard,
            Self::Concat(_) | Self::All | Self::Pieces(_) | Self::Move(_) | Self::Deal(_) => {
                Tier::Written
            }
            Self::Read(request) => request.tier(),
        }
    }

    pub(super) fn of(route: Route<'_>) -> Result<Timed, ErrorReport> {
        Ok((
            match route {
                Route::Any => Self::Any,
                Route::One(shard) => Self::One(shard.0),
                Route::Concat { shards, .. } => {
                    Self::Concat(shards.into_iter().map(|shard| shard.0).collect())
                }
                Route::All => Self::All,
                Route::Pieces(pieces) => Self::Pieces(pieces),
                Route::Move { from, to, moved } => Self::Move(Box::new(Moving {
                    from: from.0,
                    to: to.0,
                    how: moved.clone(),
                })),
                Route::Merge { .. } | Route::Pull { .. } => {
                    return Err(unsupported(
                        "only a query by itself combines rows of several shards",
                    ));
                }
                // A COPY has gone its own way before, and so has what is read first.
                Route::CopyIn(_) | Route::Deal { .. } | Route::Session => {
                    return Err(unsupported(
                        "this statement is not supported on a sharded database",
                    ));
                }
                Route::At {
                    text,
                    parameter,
                    route,
                } => {
                    let (way, _) = Self::of(*route)?;
                    return Ok((way, Some((text.to_owned(), parameter))));
                }
            },
            None,
        ))
    }
}
