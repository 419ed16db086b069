//! What a statement is: its effect on the session and the transaction.
