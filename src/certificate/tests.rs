//! Nothing that a file can hold makes reading it panic or hang.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use p12_keystore::EncryptionAlgorithm;
use proptest::prelude::*;
use rcgen::PublicKeyData;
use secrecy::SecretString;

use super::{
    Item, Material,
    judge::{self, Purpose},
};
use crate::{
    clock::Timestamp,
    tls::verify::{Question, verify},
};

/// The samples, but for the script that makes them.
static SAMPLES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/fixtures");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let samples: Vec<_> = paths.filter(|path| path.extension().is_some_and(|kind| kind != "sh")).collect();
    samples.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
});

/// Reads, judges, verifies and shows.
fn all_of_it(bytes: &[u8]) -> Material {
    let material = Material::read(bytes, Some(&SecretString::from("fixture")));
    let findings = judge::judge(&material, Timestamp::from_millis(1_800_000_000_000));
    let chain: Vec<_> = material.certificates().collect();
    let lists: Vec<_> = material.revocation_lists().collect();
    for purpose in [Purpose::Client, Purpose::Server, Purpose::Authority] {
        let question =
            Question { chain: &chain, purpose, roots: None, name: Some("a.example"), key: None, lists: &lists };
        verify(&question, Timestamp::default());
    }
    let shown = serde_json::to_string(&(&material, &findings)).unwrap();
    assert!(!shown.contains('\u{1b}'));
    material
}

#[test]
fn each_sample_is_read_whole_and_cut_off_anywhere() {
    assert!(SAMPLES.len() > 80);
    for (_, bytes) in SAMPLES.iter().filter(|(path, _)| path.extension().is_some_and(|kind| kind != "p12")) {
        all_of_it(bytes);
        (0..bytes.len().min(2000)).step_by(7).for_each(|end| {
            all_of_it(&bytes[..end]);
        });
    }
}

#[test]
fn deep_nesting_and_false_lengths_end() {
    for pattern in [&b"0\x80"[..], b"0\x84\x7f\xff\xff\xff", b"0\x00", b"\xa0\x80", b"0\x82\x01\x00\x02\x01\x03"] {
        let bytes: Vec<u8> = pattern.iter().copied().cycle().take(1024 * 1024).collect();
        all_of_it(&bytes);
    }
    all_of_it("-----BEGIN CERTIFICATE-----\n".repeat(30_000).as_bytes());
    all_of_it("-----BEGIN A-----\n-----END A-----\n".repeat(30_000).as_bytes());
}

#[test]
fn private_keys_are_described_and_never_held() {
    for (algorithm, shown) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, "EC P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, "EC P-384"),
        (&rcgen::PKCS_ECDSA_P521_SHA512, "EC P-521"),
        (&rcgen::PKCS_ED25519, "Ed25519"),
        (&rcgen::PKCS_RSA_SHA256, "RSA 2048"),
    ] {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let text = certificate.pem() + &pair.serialize_pem();

        for material in [Material::read(text.as_bytes(), None), Material::read(pair.serialized_der(), None)] {
            let key = material.private_keys().next().unwrap();
            assert_eq!(key.key.as_ref().unwrap().to_string(), shown);
            assert_eq!(key.spki_sha256.unwrap(), super::Fingerprint::of(&pair.subject_public_key_info()));
        }
        let material = Material::read(text.as_bytes(), None);
        let certificate = &material.certificates().next().unwrap().certificate;
        assert_eq!(judge::match_key(certificate, material.private_keys().next().unwrap()), None);
        let inside = pair.serialize_pem().lines().nth(1).unwrap().to_owned();
        assert!(!format!("{material:?}").contains(&inside[..16]));
        assert!(!serde_json::to_string(&material).unwrap().contains(&inside[..16]));
    }
}

#[test]
fn archive_gives_certificates_and_describes_keys() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let key = p12_keystore::PrivateKey::from_der(pair.serialized_der()).unwrap();
    let chain = vec![p12_keystore::Certificate::from_der(certificate.der()).unwrap()];
    let mut store = p12_keystore::KeyStore::new();
    let entry = p12_keystore::PrivateKeyChain::new("id", key, chain);
    store.add_entry("a", p12_keystore::KeyStoreEntry::PrivateKeyChain(entry));
    for (passphrase, told) in [("", None), ("fixture", Some(SecretString::from("fixture")))] {
        for algorithm in
            [EncryptionAlgorithm::PbeWithHmacSha256AndAes256, EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc]
        {
            let archive = store.writer(passphrase).encryption_algorithm(algorithm).write().unwrap();

            let material = Material::read(&archive, told.as_ref());

            let [held] = material.certificates().collect::<Vec<_>>()[..] else { panic!("{material:?}") };
            let [key] = material.private_keys().collect::<Vec<_>>()[..] else { panic!("{material:?}") };
            assert_eq!(held.der, **certificate.der());
            assert_eq!(key.spki_sha256, Some(held.certificate.spki_sha256));
        }
    }
}

#[test]
fn damaged_key_is_named_and_not_repeated() {
    let text = "-----BEGIN PRIVATE KEY-----\nMIGHsecretAgEAMBMGByqGSM49\n!!\n-----END PRIVATE KEY-----\n";
    let material = Material::read(text.as_bytes(), None);
    assert!(matches!(&material.items[..], [Item::Unreadable { what, .. }] if what == "PRIVATE KEY"));
    assert!(!format!("{material:?}").contains("secret"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn rubbish_is_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        all_of_it(&bytes);
    }

    #[test]
    fn changed_samples_are_read(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (_, bytes) = &SAMPLES[sample.index(SAMPLES.len())];
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        all_of_it(&bytes);
    }
}
