use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{PeerCertificate, end_point, escape};

fn der(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

/// The certificates are made by, and the hashes are those of, `openssl x509 -fingerprint`.
#[test]
fn the_end_point_is_hashed_as_openssl_does() {
    let known: [(&[u8], &str); 6] = [
        (
            include_bytes!("sha1.pem"),
            "a9939fde6c24c4d38825e032d5ab6e8dd16af1ac96338c49cf168304608d0a43",
        ),
        (
            include_bytes!("sha256.pem"),
            "70931740dc37924be0460938da103a9ceab6a2c44bad080745233d89df718fb3",
        ),
        (
            include_bytes!("sha384.pem"),
            "c06b905dfc6961660aa00f1574d6bf86fa59461f3aad4a2f2131906e7845f45a\
             8790b7f44e706042c8a37f4ee95387b2",
        ),
        (
            include_bytes!("sha512.pem"),
            "9b468c0de2ee522aae27374e225953ada8e50703d9c12ead9f8b5f14e29bd334\
             e5c653838d229e9640ab25330fbfc7362c380408ef06e627b274b05f6b419abe",
        ),
        (
            include_bytes!("pss.pem"),
            "1dd6a22518a3e0d197085a9dd946978c30af204cef770c7fb1acab267c5cc537\
             657528392f7e9a1092f21cb348c148d5",
        ),
        (
            include_bytes!("ecdsa.pem"),
            "b9d6ad2910c782756a984abb6d6bd1e908567685a64027aab1481c25c4c188a9\
             968e8fa2a14d16da528a1111b5360991c4fe47007123c28cf2b9fed216f5fb95",
        ),
    ];
    for (pem, expected) in known {
        let hash = end_point(&der(pem)).unwrap();
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected);
    }
}

#[test]
fn a_signature_without_a_hash_binds_nothing() {
    assert_eq!(end_point(&der(include_bytes!("ed25519.pem"))), None);
    assert_eq!(end_point(b"no certificate"), None);
}

/// As printed by `openssl x509 -subject -nameopt RFC2253`.
#[test]
fn a_subject_reads_as_openssl_prints_it() {
    let certificate = PeerCertificate::parse(&der(include_bytes!("sha256.pem"))).unwrap();
    assert_eq!(
        certificate.distinguished_name,
        r#"CN=shep\"herd\;x,OU=a,O=Herd\, Inc.,C=DE"#
    );
    assert_eq!(certificate.common_name.as_deref(), Some("shep\"herd;x"));
}

/// RFC 2253 §2.4.
#[test]
fn special_characters_are_escaped() {
    let escaped = |text| {
        let mut out = String::new();
        escape(text, &mut out);
        out
    };
    assert_eq!(escaped(" a b "), r"\ a b\ ");
    assert_eq!(escaped("#a#"), r"\#a#");
    assert_eq!(escaped("a+b=c"), r"a\+b=c");
    assert_eq!(escaped("a\nb"), r"a\0Ab");
}
