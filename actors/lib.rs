//! What is alive: one file an actor.
