//! Where certificates are read from on the command line: a file or stdin, and a pass phrase in a file.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use clap::Args;
use secrecy::SecretString;

use crate::{
    certificate::Material,
    cli::{Failure, exit::Exit},
    tls::file,
};

/// How files under a pass phrase are opened.
#[derive(Args)]
pub(super) struct Passphrase {
    /// The file whose first line is the pass phrase of a PKCS#12 file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    pub(super) fn read(&self) -> Result<Option<SecretString>, Failure> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        let bytes = file::read(path).map_err(|error| unreadable(path, &error))?;
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::of(Exit::Failed, format_args!("the pass phrase in {} is not UTF-8", path.display()))
        })?;
        Ok(Some(SecretString::from(text.lines().next().unwrap_or_default())))
    }
}

/// What a file holds.
pub(super) fn of_file(path: &Path, passphrase: Option<&SecretString>) -> Result<Material, Failure> {
    let (material, _mode) = of_file_with_mode(path, passphrase)?;
    Ok(material)
}

/// What a file holds, and its permission bits.
pub(super) fn of_file_with_mode(path: &Path, passphrase: Option<&SecretString>) -> Result<(Material, u32), Failure> {
    let (bytes, mode) = file::read_with_mode(path).map_err(|error| unreadable(path, &error))?;
    Ok((opened(bytes, passphrase, &path.display())?, mode))
}

/// What comes by stdin.
pub(super) fn of_stdin(passphrase: Option<&SecretString>) -> Result<Material, Failure> {
    let bytes = file::read_from(io::stdin().lock())
        .map_err(|error| Failure::of(Exit::Failed, format_args!("cannot read stdin: {error}")))?;
    opened(bytes, passphrase, &"stdin")
}

/// The exit code that says why a file cannot be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::NotFound => Exit::Missing,
        io::ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Failed,
    };
    Failure::of(exit, format_args!("cannot read {}: {error}", path.display()))
}

fn opened(bytes: Vec<u8>, passphrase: Option<&SecretString>, name: &dyn fmt::Display) -> Result<Material, Failure> {
    file::open(bytes, passphrase).map_err(|error| Failure::of(Exit::Failed, format_args!("{name}: {error}")))
}
