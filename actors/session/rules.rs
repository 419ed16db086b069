//! Which rule a client comes under, and what its certificate must be.

use pgherd_config::{ClientCert, ClientName, Config, Decision, Network, Visitor, Way};
use pgherd_net::{Peer, Stream};
use pgherd_wire::error::ErrorReport;
use pgherd_wire::sqlstate;

use crate::session::login::{Claim, Refusal};
use crate::session::replication;

/// Decides how a client is to prove who it is. Nothing of what exists is looked at for this, so the
/// answer tells nothing of it.
pub(super) fn decide<'a>(
    stream: &Stream,
    claim: &Claim,
    config: &'a Config,
) -> Result<Decision<'a>, Refusal> {
    let Some(way) = way(stream, claim) else {
        return Err(Refusal::Broken(crate::dialogue::DialogueError::Closed));
    };
    let visitor = Visitor {
        database: &claim.database,
        user: &claim.user,
        way,
        is_physical: claim.replication == Some(replication::Kind::Physical),
    };
    let Some(decision) = config.auth.decide(&visitor, &networks) else {
        return Err(refused("no pg_hba.conf entry for", stream, claim));
    };
    match decision.client_cert {
        None => {}
        Some(ClientCert::VerifyCa) => shown(stream, claim)?,
        Some(ClientCert::VerifyFull) => {
            named_by_certificate(stream, claim, decision.map, decision.client_name, config)?;
        }
    }
    Ok(decision)
}

/// What a client is told that a rule rejects, in Postgres' words.
pub(super) fn rejected(stream: &Stream, claim: &Claim) -> Refusal {
    refused("pg_hba.conf rejects connection for", stream, claim)
}

fn refused(what: &str, stream: &Stream, claim: &Claim) -> Refusal {
    let (host, encryption) = match way(stream, claim) {
        Some(Way::Plain(address)) => (address.to_canonical().to_string(), "no encryption"),
        Some(Way::Tls(address)) => (address.to_canonical().to_string(), "SSL encryption"),
        Some(Way::Unix) | None => ("[local]".to_owned(), "no encryption"),
    };
    let Claim { user, database, .. } = claim;
    let text = if claim.replication == Some(replication::Kind::Physical) {
        let what = what.replace("connection for", "replication connection for");
        let what = what.replace("entry for", "entry for replication connection from");
        format!("{what} host \"{host}\", user \"{user}\", {encryption}")
    } else {
        format!("{what} host \"{host}\", user \"{user}\", database \"{database}\", {encryption}")
    };
    ErrorReport::fatal(sqlstate::INVALID_AUTHORIZATION_SPECIFICATION, text).into()
}

/// Over what a client comes; `None` if it is gone already.
fn way(stream: &Stream, claim: &Claim) -> Option<Way> {
    match claim.peer {
        Peer::Unix { .. } => Some(Way::Unix),
        Peer::Tcp(address) if stream.is_tls() => Some(Way::Tls(address.ip())),
        Peer::Tcp(address) => Some(Way::Plain(address.ip())),
        Peer::Gone => None,
    }
}

/// The addresses of this machine, each with its network. As in Postgres they are asked for at each
/// login that they matter for, since they come and go.
fn networks() -> Vec<Network> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::error!(%error, "the addresses of this machine are not known");
        Vec::new()
    });
    let network = |interface: if_addrs::Interface| match interface.addr {
        if_addrs::IfAddr::V4(v4) => Network {
            address: v4.ip.into(),
            mask: v4.netmask.into(),
        },
        if_addrs::IfAddr::V6(v6) => Network {
            address: v6.ip.into(),
            mask: v6.netmask.into(),
        },
    };
    interfaces.into_iter().map(network).collect()
}

/// Demands a certificate, whatever name it has; TLS has checked whose it is.
fn shown(stream: &Stream, claim: &Claim) -> Result<(), Refusal> {
    match stream.tls_info().and_then(|info| info.peer_certificate) {
        Some(_) => Ok(()),
        None => Err(failed(claim)),
    }
}

/// Demands a certificate in the user's name, or in one that the map allows.
pub(super) fn named_by_certificate(
    stream: &Stream,
    claim: &Claim,
    map: Option<&str>,
    which: ClientName,
    config: &Config,
) -> Result<(), Refusal> {
    let certificate = stream.tls_info().and_then(|info| info.peer_certificate);
    let name = certificate.and_then(|shown| match which {
        ClientName::CommonName => shown.common_name,
        ClientName::DistinguishedName => Some(shown.distinguished_name),
    });
    match name {
        Some(name) if may_be(&name, claim, map, config) => Ok(()),
        _ => Err(failed(claim)),
    }
}

/// Whether somebody with a name outside may be the user: by the map, or else only under the same
/// name.
pub(super) fn may_be(name: &str, claim: &Claim, map: Option<&str>, config: &Config) -> bool {
    match map {
        Some(map) => config.auth.ident_file.maps.allow(map, name, &claim.user),
        None => name == claim.user,
    }
}

fn failed(claim: &Claim) -> Refusal {
    ErrorReport::fatal(
        sqlstate::INVALID_AUTHORIZATION_SPECIFICATION,
        format!(
            "certificate authentication failed for user \"{}\"",
            claim.user
        ),
    )
    .into()
}
