//! Who a server must prove to be: libpq's rules, by rustls' means.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::common_name;
use super::identity::Roots;

/// How far a server's certificate is checked.
#[derive(Debug)]
pub(super) enum Check {
    /// Not at all: encryption with whomever.
    Nothing,
    /// That an authority we trust has signed it.
    Chain(Roots),
    /// And that it names the host.
    ChainAndName(Roots),
}

/// In every mode the server proves that it holds the certificate's key: the channel binding of a SCRAM login
/// relies on that, checked chain or not.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Chain(roots) => self.verify_chain(roots, end_entity, intermediates, now)?,
            Check::ChainAndName(roots) => {
                self.verify_chain(roots, end_entity, intermediates, now)?;
                verify_name(end_entity, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl Verifier {
    fn verify_chain(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // A self-signed certificate that is itself trusted, as the PostgreSQL manual shows how to make one. It is an
        // authority by its own words, and webpki takes none for a server's.
        if roots.certificates.iter().any(|root| root == end_entity) {
            return verify_time(end_entity, now);
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &roots.store,
            intermediates,
            now,
            algorithms,
        )
    }
}

fn verify_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    let validity = parsed.validity();
    let now = i64::try_from(now.as_secs()).map_err(|_| CertificateError::Expired)?;
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// The alternative names decide; the common name counts only where there are none, as with libpq.
fn verify_name(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), Error> {
    let parsed = parse(certificate)?;
    if has_alternative_name(&parsed) {
        return verify_alternative_name(certificate, server_name);
    }
    let host = server_name.to_str();
    let matches = common_name(&parsed).is_some_and(|name| name_matches(name, &host, server_name));
    if matches {
        Ok(())
    } else {
        Err(CertificateError::NotValidForName.into())
    }
}

fn verify_alternative_name(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)
}

fn has_alternative_name(certificate: &X509Certificate<'_>) -> bool {
    match certificate.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::DNSName(_) | GeneralName::IPAddress(_))),
        Ok(None) => false,
        // Names we cannot read are not a reason to believe the common name.
        Err(_) => true,
    }
}

/// `*.example.com` stands for one label, and never for an address.
fn name_matches(pattern: &str, host: &str, server_name: &ServerName<'_>) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some(suffix), ServerName::DnsName(_)) = (pattern.strip_prefix("*."), server_name) else {
        return false;
    };
    match host.split_once('.') {
        Some((label, rest)) => {
            !label.is_empty() && rest.contains('.') && rest.eq_ignore_ascii_case(suffix)
        }
        None => false,
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
