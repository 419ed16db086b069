//! Parameters that nobody took: the rest of libpq's, and those that libraries of clients add for themselves.

use std::collections::BTreeMap;

use super::UrlFault;

/// What becomes of a parameter that nobody took.
enum Fate {
    /// It asks for what is done anyway.
    Needless,
    /// It can be left out without harm, and it is told that it was.
    Ignored,
    /// It asks for more than is done here, and leaving it out would pass for doing it.
    Refused(&'static str, &'static str),
    /// It has a value that is not allowed; these are.
    Wrong(&'static str, &'static str),
    /// Nobody is known to write it.
    Unknown,
}

/// Parameters that mean something to libpq's own socket, or that roles found out make needless.
const OF_LIBPQ: [&str; 16] = [
    "gssdelegation",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "passfile",
    "replication",
    "sslcompression",
    "sslkeylogfile",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Parameters with which Prisma, Rails, SQLAlchemy, JDBC, sqlx, pgx and others speak to themselves: of their own pool,
/// or of how they prepare statements, which all work here.
const OF_LIBRARIES: [&str; 36] = [
    "advisory_locks",
    "binary_parameters",
    "checkout_timeout",
    "connection_limit",
    "default_query_exec_mode",
    "description_cache_capacity",
    "encoding",
    "idle_timeout",
    "loginTimeout",
    "max_connection_lifetime",
    "max_idle_connection_lifetime",
    "pgbouncer",
    "pool",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_max_conns",
    "pool_min_conns",
    "pool_health_check_period",
    "pool_size",
    "pool_timeout",
    "prefer_simple_protocol",
    "prepareThreshold",
    "preparedStatementCacheQueries",
    "prepared_statement_cache_size",
    "prepared_statements",
    "reaping_frequency",
    "reWriteBatchedInserts",
    "single_use_connections",
    "socketTimeout",
    "socket_timeout",
    "sslaccept",
    "statement-cache-capacity",
    "statement_cache_capacity",
    "statement_cache_size",
    "uselibpqcompat",
];

/// Sorts what nobody took: gives the names of what has no effect.
pub(super) fn sort(said: BTreeMap<String, String>) -> Result<Vec<String>, UrlFault> {
    let mut ignored = Vec::new();
    for (name, value) in said {
        match fate(&name, &value) {
            Fate::Needless => {}
            Fate::Ignored => ignored.push(name),
            Fate::Refused(name, why) => return Err(UrlFault::Refused { name, why }),
            Fate::Wrong(name, allowed) => {
                let allowed = allowed.to_owned();
                return Err(UrlFault::Value {
                    name,
                    value,
                    allowed,
                });
            }
            Fate::Unknown => return Err(UrlFault::Unknown(name)),
        }
    }
    Ok(ignored)
}

fn fate(name: &str, value: &str) -> Fate {
    match (name, value) {
        ("gssencmode", "require") => Fate::Wrong("gssencmode", "disable"),
        ("gssencmode", _)
        | ("load_balance_hosts", "disable")
        | ("max_protocol_version", "latest" | "3.2")
        | ("min_protocol_version", "3.0")
        | ("sslcompression", "0")
        | ("sslsni", "1")
        // The primary is found out, and a single host is what it is.
        | ("target_session_attrs", "any" | "primary" | "read-write") => Fate::Needless,
        ("min_protocol_version", _) => Fate::Refused(
            "min_protocol_version",
            "servers that speak no more than 3.0 are spoken to",
        ),
        ("ssl_max_protocol_version", word) if word.eq_ignore_ascii_case("TLSv1.3") => Fate::Needless,
        ("ssl_max_protocol_version", word) if word.eq_ignore_ascii_case("TLSv1.2") => Fate::Ignored,
        ("ssl_max_protocol_version", _) => {
            Fate::Wrong("ssl_max_protocol_version", "TLSv1.2, TLSv1.3")
        }
        // Prisma's word for a certificate that is checked, name and all.
        ("sslaccept", "strict") => {
            Fate::Refused("sslaccept", "write sslmode=verify-full and sslrootcert")
        }
        _ if OF_LIBPQ.contains(&name) || OF_LIBRARIES.contains(&name) => Fate::Ignored,
        _ => refusal(name),
    }
}

/// What would be taken for protection and is none, or for a secret that is not read.
fn refusal(name: &str) -> Fate {
    const REVOKED: &str = "lists of revoked certificates are not read";
    const SERVICE: &str = "files of services are not read; write what stands there";
    const KEYS: &str = "write the password, or have clients' own logins passed through";
    const OAUTH: &str = "OAuth is not spoken";
    match name {
        "sslcrl" => Fate::Refused("sslcrl", REVOKED),
        "sslcrldir" => Fate::Refused("sslcrldir", REVOKED),
        "require_auth" => Fate::Refused(
            "require_auth",
            "a server is answered whatever method it asks for; channel_binding=require is SCRAM or nothing",
        ),
        "requirepeer" => Fate::Refused(
            "requirepeer",
            "nobody looks whose process a unix socket belongs to",
        ),
        "sslpassword" => Fate::Refused("sslpassword", "a key under a password is not read"),
        "sslidentity" => Fate::Refused(
            "sslidentity",
            "PKCS #12 is not read; write sslcert and sslkey, both PEM",
        ),
        "service" => Fate::Refused("service", SERVICE),
        "servicefile" => Fate::Refused("servicefile", SERVICE),
        "scram_client_key" => Fate::Refused("scram_client_key", KEYS),
        "scram_server_key" => Fate::Refused("scram_server_key", KEYS),
        "oauth_issuer" => Fate::Refused("oauth_issuer", OAUTH),
        "oauth_client_id" => Fate::Refused("oauth_client_id", OAUTH),
        "oauth_client_secret" => Fate::Refused("oauth_client_secret", OAUTH),
        "oauth_scope" => Fate::Refused("oauth_scope", OAUTH),
        _ => Fate::Unknown,
    }
}
