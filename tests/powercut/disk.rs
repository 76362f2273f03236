//! An ext4 in a file, mounted over a loop device.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::ioctl::{Opcode, Setter, ioctl};
use tempfile::TempDir;

/// A new, empty ext4 of so many MiB, as the content of a disk.
pub fn empty_ext4(mib: u64) -> Vec<u8> {
    let directory = in_memory();
    let image = directory.path().join("image");
    format(&image, mib);
    std::fs::read(image).unwrap()
}

/// Makes an ext4 in a file.
pub fn format(image: &Path, mib: u64) {
    File::create(image).unwrap().set_len(mib << 20).unwrap();
    // Nothing is left to be initialised later: that would only fill the log.
    run(
        "mkfs.ext4",
        &["-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", &text(image)],
    );
}

/// A directory in memory, where there is such a thing.
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A mounted disk. Dropping it unmounts it.
pub struct Disk {
    mount_point: PathBuf,
}

impl Disk {
    /// Mounts the ext4 in `file`, which replays its journal.
    pub fn mount(file: &Path, mount_point: &Path) -> Self {
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &text(file)]);
        let mounted = try_run("mount", &["-t", "ext4", &device, &text(mount_point)]);
        // It goes when it is not mounted any more.
        run("losetup", &["--detach", &device]);
        mounted.unwrap();
        Self { mount_point: mount_point.to_owned() }
    }

    /// Shuts the file system down without writing its journal: whatever was not synced is gone.
    pub fn shut_down(&self) {
        let file_system = File::open(&self.mount_point).unwrap();
        // SAFETY: the kernel reads a u32 there, and nothing of this process is touched.
        #[expect(unsafe_code, reason = "no crate has a safe name for this call")]
        unsafe { ioctl(&file_system, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.unwrap();
    }
}

/// `FS_IOC_SHUTDOWN`, `_IOR('X', 125, u32)`.
const SHUTDOWN: Opcode = 0x8004_587D;
/// Nothing is written any more, not even the journal.
const NO_LOG_FLUSH: u32 = 2;

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that was just killed may take a moment to let go.
        let until = Instant::now() + Duration::from_secs(5);
        while let Err(error) = try_run("umount", &[&text(&self.mount_point)]) {
            if Instant::now() > until {
                eprintln!("{error}");
                let _ = try_run("umount", &["--lazy", &text(&self.mount_point)]);
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    try_run(program, arguments).unwrap()
}

/// What it printed.
fn try_run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(arguments).output().unwrap();
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr))),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
