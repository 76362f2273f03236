//! Reads a certificate or key file, bounded.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// Largest file read, in bytes. A bundle of all public authorities is a quarter of it; more is the wrong file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let (contents, _mode) = read_with_mode(path)?;
    Ok(contents)
}

/// Reads a whole file and says what its permission bits are. Both are of the file that was opened, whatever the name
/// stands for a moment later.
pub(crate) fn read_with_mode(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // A pipe that nobody writes to would keep us waiting right here.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    // A pipe or a device may never end.
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok((read_from(file)?, metadata.mode() & 0o7777))
}

/// Reads to the end of what may be no file.
pub(crate) fn read_from(source: impl Read) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
    match contents.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")),
        false => Ok(contents),
    }
}
