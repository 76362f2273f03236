//! A destination to be, as the text of a drop-in, and how that gets to its place: whole or not at all.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::destination::DestinationId;

/// Owner and group: it names where secrets are kept.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// A destination as it will be written. What is `None` or empty is left to its default. Nothing is checked here: that is
/// for whoever loads it.
#[derive(Clone, Debug, Serialize)]
pub struct Draft {
    /// Its name.
    pub name: DestinationId,
    /// The URL that exports are POSTed to.
    pub endpoint: String,
    /// The mapped audiences.
    pub audiences: Vec<String>,
    /// The mapped attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// How long an answer may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Most POSTs under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<usize>,
    /// How it knows us beyond our certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<DraftAuthentication>,
    /// Our certificate, and whom we trust.
    pub tls: DraftTls,
}

/// How a destination will know us beyond our certificate.
#[derive(Clone, Debug, Serialize)]
pub struct DraftAuthentication {
    /// By a bearer token.
    pub bearer: DraftSecret,
}

/// Where a secret is kept.
#[derive(Clone, Debug, Serialize)]
pub struct DraftSecret {
    /// In this file.
    pub file: PathBuf,
}

/// A destination's files for TLS.
#[derive(Clone, Debug, Serialize)]
pub struct DraftTls {
    /// Our certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A file of authorities, or `public`.
    pub roots: PathBuf,
}

impl Draft {
    /// The text of a drop-in that adds it.
    ///
    /// # Errors
    /// When a path is not UTF-8, which TOML cannot hold.
    pub fn to_toml(&self) -> io::Result<String> {
        #[derive(Serialize)]
        struct Written<'d> {
            destination: [&'d Draft; 1],
        }
        let toml = toml::to_string(&Written { destination: [self] }).map_err(io::Error::other)?;
        Ok(format!("# Written by `postern destination add`.\n{toml}"))
    }
}

/// Puts a drop-in to its place, on disk once this returns, for the owner and the group of the configuration's folder.
///
/// # Errors
/// When there is one already, or something cannot be written; nothing is left behind then.
pub fn write(drop_in: &Path, text: &str) -> io::Result<()> {
    let folder = drop_in.parent().unwrap_or(Path::new(""));
    let made = !folder.try_exists()?;
    let written = make_folder(folder).and_then(|group| write_to(drop_in, folder, text, group));
    if written.is_err() && made {
        // Only the folder is left, and it is empty.
        let _ = fs::remove_dir(folder);
    }
    written
}

fn write_to(drop_in: &Path, folder: &Path, text: &str, group: u32) -> io::Result<()> {
    // A name that begins with a dot is not loaded.
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .permissions(fs::Permissions::from_mode(FILE_MODE))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    give(file.as_file(), group)?;
    // The mode above is cut by the umask.
    file.as_file().set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(drop_in).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Makes the folder of the drop-ins where there is none; the group that its files are to have.
fn make_folder(folder: &Path) -> io::Result<u32> {
    let beside = match folder.parent() {
        Some(beside) if beside != Path::new("") => beside,
        Some(_) | None => Path::new("."),
    };
    let group = fs::metadata(beside)?.gid();
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Ok(()) => {
            let made = File::open(folder)?;
            give(&made, group)?;
            made.set_permissions(fs::Permissions::from_mode(FOLDER_MODE))?;
            File::open(beside)?.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(group)
}

/// Only root and members of the group may do that; where it is so already, anybody.
fn give(file: &File, group: u32) -> io::Result<()> {
    match file.metadata()?.gid() == group {
        true => Ok(()),
        false => fchown(file, None, Some(group)),
    }
}
