//! Faults: hostile peers, killed servers, crashed actors.
