/// Whether logins to servers are bound to the TLS channel, in libpq's words.
/// <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CHANNEL-BINDING>
///
/// Bound, a login succeeds only if the server that proves to know the password is the one that holds
/// the certificate; nobody in between can pass the login on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server offers it.
    #[default]
    Prefer,
    /// Always, or there is no connection. No method but SCRAM can do it.
    Require,
}

words! {
    ChannelBinding {
        Disable = "disable",
        Prefer = "prefer",
        Require = "require",
    }
}
