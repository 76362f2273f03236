//! Power cuts: nothing acknowledged is lost when the file system dies in mid-write.
//!
//! A small ext4 on a loop device is shut down without writing its journal, so all that was not synced is gone, as when the
//! power fails before the disk's own cache matters. A `kill -9` proves nothing of the kind: the page cache survives it.
//! Needs root and loop devices: `cargo test --test it powercut -- --ignored`.

use std::{fs::File, path::PathBuf, process::Command, time::Instant};

use rustix::ioctl::{Opcode, Setter, ioctl};

use crate::support::{
    appliance::Appliance,
    load::{Load, step},
    pki::Pki,
    receiver::Receiver,
};

const CUTS: usize = 25;
const SEED: u64 = 0x5EED_9057;

#[tokio::test]
#[ignore = "needs root and loop devices"]
async fn nothing_acknowledged_is_lost_and_order_holds_through_many_power_cuts() {
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    std::fs::create_dir(&postern.state_dir).unwrap();
    let disk = Disk::mount(postern.state_dir.clone());
    postern.start_again().await;
    let mut load = Load::start(&postern, &receiver);
    let (started, mut random) = (Instant::now(), SEED);

    for _ in 0..CUTS {
        load.wait_for(5 + step(&mut random) % 80).await;
        disk.cut();
        postern.kill();
        disk.recover();
        postern.start_again().await;
        // What was told after the cut may be false: the answers of an appliance without a disk.
        load.forget_unseen();
        load.go_on(&postern);
    }
    let took = started.elapsed();

    let counts = load.end(&postern, &receiver).await;
    println!("seed {SEED:#x}, {CUTS} power cuts in {took:?}: {counts:?}");
    assert_eq!(std::fs::read_dir(postern.state_dir.join("store/blobs")).map_or(0, Iterator::count), 0);
    assert!(postern.stop().await.success());
}

/// An ext4 in a file, mounted.
struct Disk {
    directory: tempfile::TempDir,
    mount_point: PathBuf,
}

/// `FS_IOC_SHUTDOWN`, `_IOR('X', 125, u32)`.
const SHUTDOWN: Opcode = 0x8004_587D;
/// Nothing is written any more, not even the journal.
const NO_LOG_FLUSH: u32 = 2;

impl Disk {
    fn mount(mount_point: PathBuf) -> Self {
        let disk = Self { directory: tempfile::tempdir().unwrap(), mount_point };
        let image = disk.image();
        File::create(&image).unwrap().set_len(256 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", &image]);
        disk.recover_from_nothing();
        disk
    }

    fn image(&self) -> String {
        self.directory.path().join("image").display().to_string()
    }

    fn recover_from_nothing(&self) {
        run("mount", &["-o", "loop", &self.image(), &self.mount_point.display().to_string()]);
    }

    fn cut(&self) {
        let file_system = File::open(&self.mount_point).unwrap();
        // SAFETY: the kernel reads a u32 there, and nothing of this process is touched.
        #[expect(unsafe_code, reason = "no crate has a safe name for this call")]
        unsafe { ioctl(&file_system, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.unwrap();
    }

    fn recover(&self) {
        run("umount", &[&self.mount_point.display().to_string()]);
        self.recover_from_nothing();
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
