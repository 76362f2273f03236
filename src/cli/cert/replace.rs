//! A certificate or a key gives way to another, and is kept beside it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::place::{Access, Rights, failed, open_folder, stage};
use crate::{
    cli::{Failure, exit::Exit, talk},
    tls::{file, previous},
};

/// A file's new contents beside it, complete, and what is there now, to be kept as `*.previous`.
#[must_use = "put() puts it in place"]
pub(super) struct Replacement {
    path: PathBuf,
    staged: NamedTempFile,
    present: Present,
    /// Open, so that it can be synced: one that cannot is found out before anything is changed.
    folder: File,
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
        let folder = open_folder(&path).map_err(failed)?;
        let metadata = match path.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let rights = Rights::of_new(&path, access).map_err(failed)?;
                let staged = stage(&path, bytes, rights).map_err(failed)?;
                return Ok(Some(Self { path: path.clone(), staged, present: Present::Nothing, folder }));
            }
            metadata => metadata.map_err(failed)?,
        };
        if !metadata.is_file() {
            let message =
                format_args!("{} is not a regular file: name the file itself, not what leads to it", path.display());
            return Err(Failure::of(Exit::Failed, message));
        }
        let present = file::read(&path).map_err(failed)?;
        let rights = Rights::of_present(&metadata, access);
        if present == bytes && rights.are_those_of(&metadata) {
            return Ok(None);
        }
        is_ours(&path, &present, word)?;
        let kept = previous(&path);
        may_replace(&kept, &present, word)?;
        let staged = stage(&path, bytes, rights).map_err(failed)?;
        let copy = stage(&path, &present, rights).map_err(failed)?;
        Ok(Some(Self { path: path.clone(), staged, present: Present::Kept(copy, kept), folder }))
    }

    /// Whether something is there that will be kept.
    pub(super) fn keeps(&self) -> bool {
        matches!(self.present, Present::Kept(..))
    }

    /// Puts it in place, at once for whoever looks; where the file that was there is now, if there was one.
    pub(super) fn put(self) -> Result<Option<PathBuf>, Failure> {
        let Self { path, staged, present, folder } = self;
        let put = || {
            let kept = match present {
                Present::Nothing => {
                    staged.persist_noclobber(&path)?;
                    None
                }
                Present::Kept(copy, kept) => {
                    copy.persist(&kept)?;
                    staged.persist(&path)?;
                    Some(kept)
                }
            };
            folder.sync_all()?;
            Ok(kept)
        };
        put().map_err(|error: io::Error| failed("replace", &path, &error))
    }
}

/// Keeps a file that stays as it is beside itself too, so that what was kept is a pair.
pub(super) fn keep(path: &Path, word: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| failed("keep", path, &error);
    let metadata = fs::metadata(path).map_err(failed)?;
    let (present, kept) = (file::read(path).map_err(failed)?, previous(path));
    if file::read(&kept).is_ok_and(|before| before == present) {
        return Ok(());
    }
    may_replace(&kept, &present, word)?;
    let copy = stage(path, &present, Rights::of_present(&metadata, Access::Service)).map_err(failed)?;
    copy.persist(&kept).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Refuses to lose what was not kept there by us before.
fn may_replace(kept: &Path, present: &[u8], word: &str) -> Result<(), Failure> {
    let before = match kept.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.is_file() => file::read(kept).map_err(|error| failed("read", kept, &error))?,
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
