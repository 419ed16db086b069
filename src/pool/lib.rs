//! Which connection is idle, leased or awaited: the accounting, generic over the connection.
