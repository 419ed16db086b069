//! What an operator may say: typed configuration.
