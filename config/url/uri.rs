use std::collections::BTreeMap;

use super::UrlFault;
use crate::host::split_port;

/// Gives what follows the scheme of a Postgres URL.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"))
}

/// Understands `user:password@host:port,host:port/dbname?name=value&…`.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, String>, UrlFault> {
    let mut said = BTreeMap::new();
    let (front, query) = text.split_once('?').unwrap_or((text, ""));
    let (authority, dbname) = front.split_once('/').unwrap_or((front, ""));
    // The last one, for the sake of passwords written without escapes.
    let (who, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    said.insert("user".to_owned(), decode(user, "user")?);
    said.insert("password".to_owned(), decode(password, "password")?);
    said.insert("dbname".to_owned(), decode(dbname, "database")?);
    let (hosts, ports) = places_of(places)?;
    said.insert("host".to_owned(), hosts);
    said.insert("port".to_owned(), ports);
    let mut before = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| UrlFault::Pair(before.clone()))?;
        name.clone_into(&mut before);
        said.insert(decode(name, "parameter")?, decode(value, "parameter")?);
    }
    Ok(said)
}

/// Gives hosts and ports, each parted by commas.
fn places_of(text: &str) -> Result<(String, String), UrlFault> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for place in text.split(',') {
        // A host may be absent and its port given.
        let fault = || UrlFault::Host(place.split(':').next().unwrap_or_default().to_owned());
        let (host, port) = match place.strip_prefix(':') {
            Some(port) => ("", Some(port.parse().map_err(|_| fault())?)),
            None if place.is_empty() => ("", None),
            None => split_port(place).ok_or_else(fault)?,
        };
        let host = decode(host, "host")?;
        if host.contains(',') {
            return Err(UrlFault::Host(host));
        }
        hosts.push(host);
        ports.push(port.map_or_else(String::new, |port: u16| port.to_string()));
    }
    let ports = if ports.iter().all(String::is_empty) {
        String::new()
    } else {
        ports.join(",")
    };
    Ok((hosts.join(","), ports))
}

/// Undoes percent-encoding (RFC 3986 §2.1); `+` stays, as in libpq.
fn decode(text: &str, what: &'static str) -> Result<String, UrlFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(UrlFault::Escape(what));
        };
        let byte = u8::try_from(high * 16 + low).ok().filter(|byte| *byte != 0);
        bytes.push(byte.ok_or(UrlFault::Escape(what))?);
    }
    String::from_utf8(bytes).map_err(|_| UrlFault::Escape(what))
}
