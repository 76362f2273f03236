//! Files of certificates and keys come into being whole, or not at all, and none is overwritten unasked.
//!
//! A key is open to its owner alone from its first byte. In a folder that is root's and of another group, as `/etc/postern/tls` is,
//! it is opened to that group once it is there: the service must read it.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::cli::{Failure, exit::Exit};

const FOLDER_MODE: u32 = 0o750;

/// A file to be.
pub(super) struct Piece<'a> {
    pub(super) path: PathBuf,
    pub(super) text: &'a str,
    pub(super) access: Access,
}

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Who made it.
    Owner,
    /// Who made it, and the service where the folder is the service's.
    Service,
    /// All.
    Everybody,
}

/// Writes files where there are none, all of them or none, into a folder that is made if it is not there.
pub(super) fn create(folder: &Path, pieces: &[Piece<'_>]) -> Result<(), Failure> {
    let made = make_folder(folder)?;
    let written = write(pieces);
    if written.is_err() && made {
        // It is empty again.
        let _ = fs::remove_dir(folder);
    }
    written
}

fn make_folder(folder: &Path) -> Result<bool, Failure> {
    let make = || {
        DirBuilder::new().mode(FOLDER_MODE).create(folder)?;
        if let Some(group) = service_group(folder_of(folder))? {
            let folder = File::open(folder)?;
            fchown(&folder, None, Some(group))?;
            folder.set_permissions(Permissions::from_mode(FOLDER_MODE))?;
        }
        open_folder(folder)?.sync_all()
    };
    match make() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("make the folder", folder, &error)),
    }
}

/// The group that the service is in, if the folder is the service's: root's own, and of another group than root's.
fn service_group(folder: &Path) -> io::Result<Option<u32>> {
    let folder = fs::metadata(folder)?;
    Ok(Some(folder.gid()).filter(|group| folder.uid() == 0 && *group != 0))
}

/// Writes files where there are none, all of them or none.
pub(super) fn write(pieces: &[Piece<'_>]) -> Result<(), Failure> {
    for Piece { path, .. } in pieces {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    let stage = |piece: &Piece<'_>| {
        let Piece { path, text, access } = piece;
        Rights::of_new(path, *access)
            .and_then(|rights| stage(path, text.as_bytes(), rights))
            .map_err(|error| failed("write", path, &error))
    };
    let staged = pieces.iter().map(stage).collect::<Result<Vec<_>, _>>()?;
    let mut placed: Vec<&Path> = Vec::new();
    for (file, Piece { path, .. }) in staged.into_iter().zip(pieces) {
        let put = || {
            // A folder that cannot be synced is found out before anything is there.
            let folder = open_folder(path)?;
            file.persist_noclobber(path).map_err(|error| error.error)?;
            placed.push(path);
            folder.sync_all()
        };
        if let Err(error) = put() {
            for path in placed {
                let _ = fs::remove_file(path);
            }
            return Err(failed("write", path, &error));
        }
    }
    Ok(())
}

/// A file's mode, and to whom it is given.
#[derive(Clone, Copy)]
pub(super) struct Rights {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Rights {
    pub(super) fn of_new(path: &Path, access: Access) -> io::Result<Self> {
        Ok(match (access, service_group(folder_of(path))?) {
            (Access::Everybody, _) => Self { mode: 0o644, owner: None, group: None },
            (Access::Service, group @ Some(_)) => Self { mode: 0o640, owner: None, group },
            (Access::Service, None) | (Access::Owner, _) => Self { mode: 0o600, owner: None, group: None },
        })
    }

    /// Whether a file has them.
    pub(super) fn are_those_of(self, metadata: &fs::Metadata) -> bool {
        metadata.mode() & 0o777 == self.mode
    }

    /// As it is now; a key is closed to everybody, whatever it was.
    pub(super) fn of_present(metadata: &fs::Metadata, access: Access) -> Self {
        let mode = metadata.mode() & if access == Access::Everybody { 0o777 } else { 0o770 };
        Self { mode, owner: Some(metadata.uid()), group: Some(metadata.gid()) }
    }
}

/// Writes a file that only we can read beside where it will be, then gives it its rights.
pub(super) fn stage(path: &Path, bytes: &[u8], Rights { mode, owner, group }: Rights) -> io::Result<NamedTempFile> {
    let mut staged = tempfile::Builder::new().prefix(".").suffix(".new").tempfile_in(folder_of(path))?;
    staged.write_all(bytes)?;
    let file = staged.as_file();
    let now = file.metadata()?;
    let is_given = owner.is_none_or(|owner| owner == now.uid()) && group.is_none_or(|group| group == now.gid());
    if !is_given {
        fchown(file, owner, group)?;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(staged)
}

/// The folder of a path, to be synced.
pub(super) fn open_folder(path: &Path) -> io::Result<File> {
    File::open(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

fn exists(path: &Path) -> Failure {
    let message = format_args!(
        "{} exists already, and nothing is overwritten: choose another folder, or move it away",
        path.display()
    );
    Failure::of(Exit::Failed, message)
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::AlreadyExists => return exists(path),
        ErrorKind::NotFound => Exit::Missing,
        ErrorKind::PermissionDenied => Exit::NotPermitted,
        _ => Exit::Failed,
    };
    Failure::of(exit, format_args!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_come_into_being_or_none() {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("new");
        let piece = |name: &str| Piece { path: folder.join(name), text: "text", access: Access::Owner };

        // The second finds the first in its place.
        assert!(create(&folder, &[piece("a"), piece("a")]).is_err());
        assert!(!folder.exists());
        assert!(create(&folder, &[piece("a"), piece("b")]).is_ok());
        assert!(create(&folder, &[piece("c"), piece("b")]).is_err());

        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a", "b"]);
    }
}
