//! pgherd: arguments, configuration, the root actor, a signal, a drain.

fn main() {}
