//! What a certificate says: names, and the hash that binds a login to it.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::AlgorithmIdentifier;

/// A certificate the other side has proved to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject's first common name; `None` if there is none, or if it holds a NUL and could be misread.
    pub common_name: Option<String>,
    /// The subject in the notation of RFC 2253, as PostgreSQL's `clientname=DN` compares it.
    pub distinguished_name: String,
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl PeerCertificate {
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            common_name: common_name(&certificate).map(str::to_owned),
            distinguished_name: rfc2253(certificate.subject()),
            der: der.to_vec(),
        })
    }
}

pub(super) fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    (!name.contains('\0')).then_some(name)
}

/// The hash of `tls-server-end-point` (RFC 5929 §4.1): by the hash of the certificate's signature, but SHA-256 in the
/// place of MD5 and SHA-1. `None` where the signature has no hash of its own.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(match hash_of(&certificate.signature_algorithm)? {
        Hash::Sha224 => Sha224::digest(der).to_vec(),
        Hash::Sha256 => Sha256::digest(der).to_vec(),
        Hash::Sha384 => Sha384::digest(der).to_vec(),
        Hash::Sha512 => Sha512::digest(der).to_vec(),
    })
}

enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

fn hash_of(algorithm: &AlgorithmIdentifier<'_>) -> Option<Hash> {
    if let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(algorithm)
    {
        return hash_by_name(&parameters.hash_algorithm_oid().to_id_string());
    }
    hash_by_signature(&algorithm.algorithm.to_id_string())
}

/// Signature algorithms that name their hash: RFC 8017 (RSA), RFC 5758 (ECDSA and DSA).
fn hash_by_signature(oid: &str) -> Option<Hash> {
    Some(match oid {
        // md5WithRSA, sha1WithRSA, ecdsa-with-SHA1, dsa-with-SHA1.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.10040.4.3" => Hash::Sha256,
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.3.1" => Hash::Sha224,
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.3.2" => Hash::Sha256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.3.3" => Hash::Sha384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.3.4" => Hash::Sha512,
        _ => return None,
    })
}

/// Hashes by themselves, as the parameters of RSASSA-PSS name them.
fn hash_by_name(oid: &str) -> Option<Hash> {
    Some(match oid {
        // md5 and sha1.
        "1.2.840.113549.2.5" | "1.3.14.3.2.26" => Hash::Sha256,
        "2.16.840.1.101.3.4.2.4" => Hash::Sha224,
        "2.16.840.1.101.3.4.2.1" => Hash::Sha256,
        "2.16.840.1.101.3.4.2.2" => Hash::Sha384,
        "2.16.840.1.101.3.4.2.3" => Hash::Sha512,
        _ => return None,
    })
}

/// The last part first, parts joined by `,`, the values of one part by `+`, special characters behind a backslash.
fn rfc2253(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name
        .iter_rdn()
        .map(|part| {
            let values: Vec<String> = part.iter().map(attribute).collect();
            values.join("+")
        })
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &x509_parser::x509::AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let key = short_name(&oid).unwrap_or(&oid);
    let mut value = String::new();
    match attribute.as_str() {
        Ok(text) => escape(text, &mut value),
        // Not a string: the encoded bytes, as RFC 2253 §2.4 has it.
        Err(_) => {
            value.push('#');
            for byte in attribute.attr_value().data {
                value.push_str(&format!("{byte:02X}"));
            }
        }
    }
    format!("{key}={value}")
}

/// The names OpenSSL prints, and PostgreSQL with it.
fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(text: &str, out: &mut String) {
    let last = text.chars().count().saturating_sub(1);
    for (place, character) in text.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', character]),
            '#' if place == 0 => out.push_str("\\#"),
            ' ' if place == 0 || place == last => out.push_str("\\ "),
            character if character.is_ascii_control() => {
                out.push_str(&format!("\\{:02X}", u32::from(character)));
            }
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests;
