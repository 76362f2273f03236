//! A small ext4 of a test's own, in a file. Needs root and loop devices.

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
};

/// Mounted until it is dropped.
pub struct Disk {
    directory: tempfile::TempDir,
    mount_point: PathBuf,
}

impl Disk {
    /// An empty one of so many bytes, on a directory that is made for it.
    pub fn mount(mount_point: PathBuf, bytes: u64) -> Self {
        fs::create_dir(&mount_point).unwrap();
        let disk = Self { directory: tempfile::tempdir().unwrap(), mount_point };
        let image = disk.directory.path().join("image").display().to_string();
        File::create(&image).unwrap().set_len(bytes).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image]);
        run("mount", &["-o", "loop", &image, &disk.mount_point.display().to_string()]);
        disk
    }

    /// Somebody else's file takes all the space but so many bytes.
    pub fn fill_but(&self, bytes: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        let mut chunk = vec![1; 1 << 20];
        while self.free() > bytes {
            let most = usize::try_from(self.free() - bytes).unwrap();
            chunk.truncate(most.max(1024));
            if filler.write_all(&chunk).is_err() {
                // The last blocks go to the file's own map.
                break;
            }
        }
        filler.sync_all().unwrap();
    }

    /// It is gone again.
    pub fn clear(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    pub fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.mount_point).unwrap();
        found.f_bavail * found.f_frsize
    }

    fn filler(&self) -> PathBuf {
        self.mount_point.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: should the test have failed, the appliance may still be in it.
        let _ = Command::new("umount").arg("-l").arg(&self.mount_point).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
