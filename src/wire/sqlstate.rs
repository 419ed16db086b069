//! The five characters by which programs tell errors apart.
//!
//! Source: PostgreSQL documentation, appendix "PostgreSQL Error Codes", whose names are used here.

use std::fmt;

/// A SQLSTATE: five ASCII digits or capital letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The code that `bytes` spell; `None` if they spell none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        let legal = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
        code.iter().all(legal).then_some(Self(code))
    }

    /// The code as bytes.
    pub fn as_bytes(&self) -> &[u8; 5] {
        &self.0
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        // A code is ASCII by construction, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The first two characters, the class of the error.
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// 00000: successful completion.
pub const SUCCESSFUL_COMPLETION: SqlState = SqlState(*b"00000");
/// 01000: warning.
pub const WARNING: SqlState = SqlState(*b"01000");
/// 08000: connection exception.
pub const CONNECTION_EXCEPTION: SqlState = SqlState(*b"08000");
/// 08003: connection does not exist.
pub const CONNECTION_DOES_NOT_EXIST: SqlState = SqlState(*b"08003");
/// 08004: server rejected connection.
pub const SERVER_REJECTED_CONNECTION: SqlState = SqlState(*b"08004");
/// 08006: connection failure.
pub const CONNECTION_FAILURE: SqlState = SqlState(*b"08006");
/// 08007: transaction resolution unknown.
pub const TRANSACTION_RESOLUTION_UNKNOWN: SqlState = SqlState(*b"08007");
/// 08P01: protocol violation.
pub const PROTOCOL_VIOLATION: SqlState = SqlState(*b"08P01");
/// 0A000: feature not supported.
pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState(*b"0A000");
/// 22023: invalid parameter value.
pub const INVALID_PARAMETER_VALUE: SqlState = SqlState(*b"22023");
/// 25001: active sql transaction.
pub const ACTIVE_SQL_TRANSACTION: SqlState = SqlState(*b"25001");
/// 25006: read only sql transaction.
pub const READ_ONLY_SQL_TRANSACTION: SqlState = SqlState(*b"25006");
/// 25P01: no active sql transaction.
pub const NO_ACTIVE_SQL_TRANSACTION: SqlState = SqlState(*b"25P01");
/// 25P02: in failed sql transaction.
pub const IN_FAILED_SQL_TRANSACTION: SqlState = SqlState(*b"25P02");
/// 25P03: idle in transaction session timeout.
pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: SqlState = SqlState(*b"25P03");
/// 25P04: transaction timeout.
pub const TRANSACTION_TIMEOUT: SqlState = SqlState(*b"25P04");
/// 26000: invalid sql statement name.
pub const INVALID_SQL_STATEMENT_NAME: SqlState = SqlState(*b"26000");
/// 28000: invalid authorization specification.
pub const INVALID_AUTHORIZATION_SPECIFICATION: SqlState = SqlState(*b"28000");
/// 28P01: invalid password.
pub const INVALID_PASSWORD: SqlState = SqlState(*b"28P01");
/// 34000: invalid cursor name.
pub const INVALID_CURSOR_NAME: SqlState = SqlState(*b"34000");
/// 3D000: invalid catalog name.
pub const INVALID_CATALOG_NAME: SqlState = SqlState(*b"3D000");
/// 40000: transaction rollback.
pub const TRANSACTION_ROLLBACK: SqlState = SqlState(*b"40000");
/// 40001: serialization failure.
pub const SERIALIZATION_FAILURE: SqlState = SqlState(*b"40001");
/// 40003: statement completion unknown.
pub const STATEMENT_COMPLETION_UNKNOWN: SqlState = SqlState(*b"40003");
/// 40P01: deadlock detected.
pub const DEADLOCK_DETECTED: SqlState = SqlState(*b"40P01");
/// 42000: syntax error or access rule violation.
pub const SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION: SqlState = SqlState(*b"42000");
/// 42501: insufficient privilege.
pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState(*b"42501");
/// 42601: syntax error.
pub const SYNTAX_ERROR: SqlState = SqlState(*b"42601");
/// 42803: grouping error.
pub const GROUPING_ERROR: SqlState = SqlState(*b"42803");
/// 42P22: indeterminate collation.
pub const INDETERMINATE_COLLATION: SqlState = SqlState(*b"42P22");
/// 42704: undefined object.
pub const UNDEFINED_OBJECT: SqlState = SqlState(*b"42704");
/// 42P03: duplicate cursor.
pub const DUPLICATE_CURSOR: SqlState = SqlState(*b"42P03");
/// 42P05: duplicate prepared statement.
pub const DUPLICATE_PREPARED_STATEMENT: SqlState = SqlState(*b"42P05");
/// 42P01: undefined table.
pub const UNDEFINED_TABLE: SqlState = SqlState(*b"42P01");
/// 53000: insufficient resources.
pub const INSUFFICIENT_RESOURCES: SqlState = SqlState(*b"53000");
/// 53100: disk full.
pub const DISK_FULL: SqlState = SqlState(*b"53100");
/// 53200: out of memory.
pub const OUT_OF_MEMORY: SqlState = SqlState(*b"53200");
/// 53300: too many connections.
pub const TOO_MANY_CONNECTIONS: SqlState = SqlState(*b"53300");
/// 53400: configuration limit exceeded.
pub const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState(*b"53400");
/// 54000: program limit exceeded.
pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState(*b"54000");
/// 54001: statement too complex.
pub const STATEMENT_TOO_COMPLEX: SqlState = SqlState(*b"54001");
/// 55000: object not in prerequisite state.
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState(*b"55000");
/// 55006: object in use.
pub const OBJECT_IN_USE: SqlState = SqlState(*b"55006");
/// 55P02: cant change runtime param.
pub const CANT_CHANGE_RUNTIME_PARAM: SqlState = SqlState(*b"55P02");
/// 57000: operator intervention.
pub const OPERATOR_INTERVENTION: SqlState = SqlState(*b"57000");
/// 57014: query canceled.
pub const QUERY_CANCELED: SqlState = SqlState(*b"57014");
/// 57P01: admin shutdown.
pub const ADMIN_SHUTDOWN: SqlState = SqlState(*b"57P01");
/// 57P02: crash shutdown.
pub const CRASH_SHUTDOWN: SqlState = SqlState(*b"57P02");
/// 57P03: cannot connect now.
pub const CANNOT_CONNECT_NOW: SqlState = SqlState(*b"57P03");
/// 57P04: database dropped.
pub const DATABASE_DROPPED: SqlState = SqlState(*b"57P04");
/// 57P05: idle session timeout.
pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState(*b"57P05");
/// 58000: system error.
pub const SYSTEM_ERROR: SqlState = SqlState(*b"58000");
/// 58030: io error.
pub const IO_ERROR: SqlState = SqlState(*b"58030");
/// F0000: config file error.
pub const CONFIG_FILE_ERROR: SqlState = SqlState(*b"F0000");
/// XX000: internal error.
pub const INTERNAL_ERROR: SqlState = SqlState(*b"XX000");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_five_digits_or_capitals_only() {
        assert_eq!(SqlState::from_bytes(b"57P01"), Some(ADMIN_SHUTDOWN));
        for bad in [
            &b""[..],
            b"57P0",
            b"57P011",
            b"57p01",
            b"57 01",
            b"57\xff01",
        ] {
            assert_eq!(SqlState::from_bytes(bad), None);
        }
        assert_eq!(ADMIN_SHUTDOWN.to_string(), "57P01");
        assert_eq!(ADMIN_SHUTDOWN.class(), "57");
    }
}
