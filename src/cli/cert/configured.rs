//! The files with certificates that a configuration names.

use std::path::{Path, PathBuf};

use crate::{
    certificate::Finding,
    cli::{Failure, exit::Exit},
    config,
    destination::DestinationId,
    tls::{ClientTls, ClientTlsFiles, RootsSource},
};

/// A file, and who uses it for what.
pub(super) struct Configured {
    /// The destinations.
    pub(super) destinations: Vec<String>,
    /// For what.
    pub(super) role: Role,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Our certificate and its chain.
    Certificate,
    /// Whom we trust.
    Roots,
}

/// Each file once.
pub(super) fn all(config: &Path) -> Result<Vec<Configured>, Failure> {
    let mut found: Vec<Configured> = Vec::new();
    for (id, ClientTlsFiles { certificate, key: _, roots }) in config::certificate_files(config)? {
        let roots = match roots {
            RootsSource::File(path) => Some((Role::Roots, path)),
            RootsSource::Public => None,
        };
        for (role, path) in [(Role::Certificate, certificate)].into_iter().chain(roots) {
            match found.iter_mut().find(|known| known.role == role && known.path == path) {
                Some(known) => known.destinations.push(id.to_string()),
                None => found.push(Configured { destinations: vec![id.to_string()], role, path }),
            }
        }
    }
    Ok(found)
}

/// The files of one destination.
pub(super) fn of(config: &Path, name: &str) -> Result<ClientTlsFiles, Failure> {
    let all = config::certificate_files(config)?;
    let names: Vec<String> = all.iter().map(|(id, _)| id.to_string()).collect();
    all.into_iter().find(|(id, _): &(DestinationId, _)| id.to_string() == name).map(|(_, files)| files).ok_or_else(
        || {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Failure::of(Exit::Missing, format_args!("no destination `{name}` in {}; it has: {known}", config.display()))
        },
    )
}

/// What the appliance itself would refuse of these files: it is narrower than who looks at them here.
pub(super) fn refusal(files: &ClientTlsFiles) -> Option<Finding> {
    let error = ClientTls::load(files).err()?;
    Some(Finding::error("refused", format_args!("the appliance refuses it: {}", crate::chain(&error)), ""))
}
