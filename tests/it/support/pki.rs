//! An authority, a server and a client that trust each other, made anew for each test.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postern::{
    certificate::{Certificate, Fingerprint},
    clock::{Clock, Timestamp},
    tls::{
        ClientTls, ClientTlsFiles, RootsSource,
        issue::{Authority, Issued, Period},
    },
};
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;

/// The address that receivers listen on; their certificates name it.
pub const HOST: &str = "127.0.0.1";

pub struct Pki {
    pub authority: Authority,
    pub server: Issued,
    pub client: Issued,
    /// Where the client's files are; kept by whoever needs them.
    pub directory: Arc<TempDir>,
}

impl Pki {
    pub fn new() -> Self {
        Self::of(valid())
    }

    /// All of it valid for that long from now.
    pub fn lasting(period: Duration) -> Self {
        Self::of(Period { from: now() - HOUR, until: now() + period })
    }

    /// All of it valid so.
    pub fn of(valid: Period) -> Self {
        let authority = Authority::new("Test authority", valid).unwrap();
        let server = authority.server(&[HOST, "localhost"], valid).unwrap();
        let client = authority.client("Test client", valid).unwrap();
        Self { authority, server, client, directory: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// The good client: its files, written.
    pub fn client_files(&self) -> ClientTlsFiles {
        self.files_of(&self.client)
    }

    /// The good client, loaded.
    pub fn client_tls(&self) -> ClientTls {
        ClientTls::load(&self.client_files()).unwrap()
    }

    /// The files of another client that trusts this authority.
    pub fn files_of(&self, client: &Issued) -> ClientTlsFiles {
        ClientTlsFiles {
            certificate: self.write("client.crt", &client.certificate_pem, 0o644),
            key: self.write("client.key", &client.key_pem, 0o640),
            roots: RootsSource::File(self.write("ca.crt", &self.authority.certificate_pem(), 0o644)),
        }
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Puts another pair in the place of the client's files as an operator's tool does: each whole, one after the other.
    pub fn replace_client(&self, client: &Issued) {
        self.replace("client.crt", &client.certificate_pem, 0o644);
        self.replace("client.key", &client.key_pem, 0o640);
    }

    /// Puts a file in the place of another, at once.
    pub fn replace(&self, name: &str, text: &str, mode: u32) {
        let new = self.write(&format!("{name}.new"), text, mode);
        fs::rename(new, self.path().join(name)).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// What tells a certificate from others.
pub fn fingerprint(der: &[u8]) -> String {
    Certificate::read(der).unwrap().sha256.to_string()
}

/// SHA-256 of the public key of a certificate in PEM: what a pin is made of.
pub fn pin(certificate_pem: &str) -> Fingerprint {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
    Certificate::read(&der).unwrap().spki_sha256
}

/// Of a certificate that was issued.
pub fn fingerprint_of(issued: &Issued) -> String {
    fingerprint(&CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap())
}

/// What an authority that `cert issue` made in a folder answers to a request: the leaf alone, in PEM.
pub fn answer(authority: &Path, request: &str, change: impl Fn(&mut CertificateParams)) -> String {
    let read = |name: &str| fs::read_to_string(authority.join(name)).unwrap();
    let own = CertificateDer::from_pem_slice(read("ca.crt").as_bytes()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&own, KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
    let today = now().as_millis() / 86_400_000;
    let day = |day: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(day as u64 * 86_400);
    (request.params.not_before, request.params.not_after) = (day(today - 1), day(today + 30));
    request.params.use_authority_key_identifier_extension = true;
    change(&mut request.params);
    request.signed_by(&issuer).unwrap().pem()
}

pub fn now() -> Timestamp {
    Clock::system().now()
}

pub fn valid() -> Period {
    Period { from: now() - HOUR, until: now() + HOUR }
}

pub fn expired() -> Period {
    Period { from: now() - 2 * HOUR, until: now() - HOUR }
}

pub fn not_yet_valid() -> Period {
    Period { from: now() + HOUR, until: now() + 2 * HOUR }
}

const HOUR: Duration = Duration::from_secs(3600);
