//! Where a client stands: transaction, parameters, prepared statements, replies owed, pins.
