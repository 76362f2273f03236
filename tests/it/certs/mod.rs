//! Certificates are made, asked for, put in place and handed out.

mod install;
mod issue;
mod keys;
mod ways;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use crate::support::{appliance::command, socket::Done};

/// A folder in which verbs run.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs a verb, given as a line.
    fn cert(&self, line: &str) -> Done {
        Done::of(command(&["cert"]).args(line.split(' ')).current_dir(self.0.path()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o7777
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.read(name).as_bytes()).map(Result::unwrap).collect()
    }

    /// All files below, with their contents; links that lead nowhere, too.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn below(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => below(&path, found),
                    false => found.push((path.clone(), fs::read(&path).unwrap_or_else(|_| b"a link".to_vec()))),
                }
            }
        }
        let mut found = Vec::new();
        below(self.0.path(), &mut found);
        found.sort();
        found
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    parse_x509_certificate(der).unwrap().1
}

/// An authority that answers requests, made by `cert issue authority` in this folder of a desk: the leaf alone, PEM.
fn answer(desk: &Desk, authority: &str, request: &str) -> String {
    answer_as(desk, authority, request, |_| {})
}

/// As [`answer`], with something else in the certificate.
fn answer_as(desk: &Desk, authority: &str, request: &str, change: impl Fn(&mut rcgen::CertificateParams)) -> String {
    crate::support::pki::answer(&desk.path(authority), &desk.read(request), change)
}
