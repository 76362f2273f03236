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

use crate::cli::{Failure, exit::Exit, talk};

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
        sync_folder(folder)
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
    for (index, (file, Piece { path, .. })) in staged.into_iter().zip(pieces).enumerate() {
        let placed = file.persist_noclobber(path).map_err(|error| error.error).and_then(|_| sync_folder(path));
        if let Err(error) = placed {
            for Piece { path, .. } in &pieces[..index] {
                let _ = fs::remove_file(path);
            }
            return Err(failed("write", path, &error));
        }
    }
    Ok(())
}

/// A file's new contents beside it, complete, and what is there now, to be kept as `*.previous`.
#[must_use = "put() puts it in place"]
pub(super) struct Replacement {
    path: PathBuf,
    staged: NamedTempFile,
    present: Present,
}

enum Present {
    Nothing,
    /// It is kept here.
    Kept(NamedTempFile, PathBuf),
}

impl Replacement {
    /// Prepares it, in the present file's mode and for its owner; nothing when that says the same already. `word` is what all these
    /// files have: one without it is somebody's own, and not touched.
    pub(super) fn prepare(path: &Path, bytes: &[u8], access: Access, word: &str) -> Result<Option<Self>, Failure> {
        let failed = |error: io::Error| failed("replace", path, &error);
        let path = path.to_owned();
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let rights = Rights::of_new(&path, access).map_err(failed)?;
                let staged = stage(&path, bytes, rights).map_err(failed)?;
                return Ok(Some(Self { path: path.clone(), staged, present: Present::Nothing }));
            }
            metadata => metadata.map_err(failed)?,
        };
        if !metadata.is_file() {
            let message =
                format_args!("{} is not a regular file: name the file itself, not what leads to it", path.display());
            return Err(Failure::of(Exit::Failed, message));
        }
        let present = fs::read(&path).map_err(failed)?;
        if present == bytes {
            return Ok(None);
        }
        is_ours(&path, &present, word)?;
        let kept = with_suffix(&path, ".previous");
        may_replace(&kept, &present, word)?;
        let rights = Rights::of_present(&metadata, access);
        let staged = stage(&path, bytes, rights).map_err(failed)?;
        let copy = stage(&path, &present, rights).map_err(failed)?;
        Ok(Some(Self { path: path.clone(), staged, present: Present::Kept(copy, kept) }))
    }

    /// Puts it in place, at once for whoever looks; where the file that was there is now, if there was one.
    pub(super) fn put(self) -> Result<Option<PathBuf>, Failure> {
        let Self { path, staged, present } = self;
        let put = || match present {
            Present::Nothing => {
                staged.persist_noclobber(&path)?;
                sync_folder(&path)?;
                Ok(None)
            }
            Present::Kept(copy, kept) => {
                copy.persist(&kept)?;
                staged.persist(&path)?;
                sync_folder(&path)?;
                Ok(Some(kept))
            }
        };
        put().map_err(|error: io::Error| failed("replace", &path, &error))
    }
}

/// Refuses to lose what was not kept there by us before.
fn may_replace(kept: &Path, present: &[u8], word: &str) -> Result<(), Failure> {
    let before = match kept.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_file() => fs::read(kept).map_err(|error| failed("read", kept, &error))?,
        Ok(_) => Vec::new(),
        Err(error) => return Err(failed("read", kept, &error)),
    };
    is_ours(kept, &before, word)?;
    if before != present {
        talk(format_args!("{} is replaced by what is in place now", kept.display()));
    }
    Ok(())
}

/// Refuses to replace a file of another kind.
fn is_ours(path: &Path, bytes: &[u8], word: &str) -> Result<(), Failure> {
    match bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
        true => Ok(()),
        false => {
            let (path, word) = (path.display(), word.trim_end_matches('-').to_lowercase());
            let message = format_args!("{path} is in the way: it is no {word}, and it would be lost; move it away");
            Err(Failure::of(Exit::Failed, message))
        }
    }
}

/// A file's mode, and to whom it is given.
#[derive(Clone, Copy)]
struct Rights {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Rights {
    fn of_new(path: &Path, access: Access) -> io::Result<Self> {
        Ok(match (access, service_group(folder_of(path))?) {
            (Access::Everybody, _) => Self { mode: 0o644, owner: None, group: None },
            (Access::Service, group @ Some(_)) => Self { mode: 0o640, owner: None, group },
            (Access::Service, None) | (Access::Owner, _) => Self { mode: 0o600, owner: None, group: None },
        })
    }

    /// As it is now; a key is closed to everybody, whatever it was.
    fn of_present(metadata: &fs::Metadata, access: Access) -> Self {
        let mode = metadata.mode() & if access == Access::Everybody { 0o777 } else { 0o770 };
        Self { mode, owner: Some(metadata.uid()), group: Some(metadata.gid()) }
    }
}

/// Writes a file that only we can read beside where it will be, then gives it its rights.
fn stage(path: &Path, bytes: &[u8], Rights { mode, owner, group }: Rights) -> io::Result<NamedTempFile> {
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

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn exists(path: &Path) -> Failure {
    let message = format_args!(
        "{} exists already, and nothing is overwritten: choose another folder, or move it away",
        path.display()
    );
    Failure::of(Exit::Failed, message)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
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
