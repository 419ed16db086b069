//! Sockets, TLS and framed connections: the one seam to the operating system.
