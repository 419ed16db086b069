//! Faults of a real server, and what its clients may notice of them.

mod absence;
mod crash;
mod frozen;
mod full;
mod later;
mod password;
