//! Whether a signature holds.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ED25519,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::key::Key;

/// Whether a signature over `signed` was made by the owner of a public key; none where the algorithm is not known here.
/// `algorithm` is as OpenSSL names it.
pub(super) fn holds(key: &SubjectPublicKeyInfo<'_>, algorithm: &str, signed: &[u8], signature: &[u8]) -> Option<bool> {
    let kind = Key::public(key);
    let verification: &dyn VerificationAlgorithm = match (algorithm, kind.algorithm.as_str(), kind.curve.as_deref()) {
        ("sha256WithRSAEncryption", "RSA", _) => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("sha384WithRSAEncryption", "RSA", _) => &RSA_PKCS1_2048_8192_SHA384,
        ("sha512WithRSAEncryption", "RSA", _) => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        ("ecdsa-with-SHA256", "EC", Some("P-256")) => &ECDSA_P256_SHA256_ASN1,
        ("ecdsa-with-SHA384", "EC", Some("P-256")) => &ECDSA_P256_SHA384_ASN1,
        ("ecdsa-with-SHA256", "EC", Some("P-384")) => &ECDSA_P384_SHA256_ASN1,
        ("ecdsa-with-SHA384", "EC", Some("P-384")) => &ECDSA_P384_SHA384_ASN1,
        ("ecdsa-with-SHA256", "EC", Some("P-521")) => &ECDSA_P521_SHA256_ASN1,
        ("ecdsa-with-SHA384", "EC", Some("P-521")) => &ECDSA_P521_SHA384_ASN1,
        ("ecdsa-with-SHA512", "EC", Some("P-521")) => &ECDSA_P521_SHA512_ASN1,
        ("ED25519", "Ed25519", _) => &ED25519,
        _ => return None,
    };
    Some(UnparsedPublicKey::new(verification, &key.subject_public_key.data).verify(signed, signature).is_ok())
}
