//! The audit log: who changed what, and when. One JSON object a line, in `audit.log` in the state directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde_json::json;
use tracing::{info, warn};

use crate::{clock::Timestamp, listen::Caller};

/// Beyond this the log is put aside as `audit.log.1`, in place of the one before: some hundred thousand changes.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The audit log.
pub struct Trail {
    path: PathBuf,
    file: Mutex<File>,
}

impl Trail {
    /// Opens the log in the state directory, or begins it.
    ///
    /// # Errors
    /// As the system says.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("audit.log");
        Ok(Self { file: Mutex::new(append_to(&path)?), path })
    }

    /// Writes down that `caller` does `action` to `object`; returns when it is on disk. Blocks.
    ///
    /// A full disk must not keep an operator from making room on it: what cannot be written goes to the process's log alone.
    pub(crate) fn note(&self, caller: Caller, action: &str, object: &str, now: Timestamp) {
        let Caller { uid, pid } = caller;
        info!(uid, pid, action, object, "an operator makes a change");
        let line = json!({ "at": now.to_string(), "uid": uid, "pid": pid, "action": action, "object": object });
        if let Err(error) = self.write(&format!("{line}\n")) {
            warn!(path = %self.path.display(), %error, "cannot write to the audit log; the line before this one says what it lacks");
        }
    }

    fn write(&self, line: &str) -> io::Result<()> {
        // A panic elsewhere leaves the file whole.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata()?.len() > BYTES_MAX {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            *file = append_to(&self.path)?;
        }
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
