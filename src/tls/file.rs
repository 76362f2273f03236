//! Reads a certificate or key file, bounded.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::fs::OFlags;
use secrecy::SecretString;

use crate::certificate::Material;

/// Largest file read, in bytes. A bundle of all public authorities is a quarter of it; more is the wrong file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Longest that a file is worked on. A pass phrase is made costly to guess on purpose, and a hostile file may ask for
/// thousands of them; an honest one takes a second.
const OPENING_MAX: Duration = Duration::from_secs(20);

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

/// What bytes hold, taken apart on a thread that is left behind when it takes too long. A pass phrase opens PKCS#12.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`].
pub(crate) fn open(bytes: Vec<u8>, passphrase: Option<&SecretString>) -> io::Result<Material> {
    let passphrase = passphrase.cloned();
    let (answer, opened) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // An error means that nobody waits any more.
        let _ = answer.send(Material::read(&bytes, passphrase.as_ref()));
    });
    opened.recv_timeout(OPENING_MAX).map_err(|_| {
        let seconds = OPENING_MAX.as_secs();
        io::Error::new(io::ErrorKind::TimedOut, format!("it takes more than {seconds} s to open: do not trust it"))
    })
}
