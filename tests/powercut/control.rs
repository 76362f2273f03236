//! The control: what is not synced is lost. Were it there after these cuts, they would not be power cuts.

use std::{
    fs::{File, read},
    io::Write,
};

use crate::{
    blocklog::{BlockLog, Keep, save},
    disk::{Disk, empty_ext4, in_memory},
};

const RECORDS: usize = 200;
const RECORD: [u8; 1000] = [b'x'; 1000];

#[test]
#[ignore = "needs root, FUSE and loop devices"]
fn plain_file_is_lost_in_a_power_cut_unless_it_is_synced() {
    for keep in Keep::ALL {
        assert_eq!(bytes_after_cut(keep, false), 0, "keeping {keep}: there without a sync");
        assert_eq!(bytes_after_cut(keep, true), RECORDS * RECORD.len(), "keeping {keep}: lost in spite of a sync");
    }
}

/// Writes records to a file, cuts the power, and says how much of the file is there.
fn bytes_after_cut(keep: Keep, synced: bool) -> usize {
    let directory = in_memory();
    let (mount_point, image) = (directory.path().join("mounted"), directory.path().join("image"));
    std::fs::create_dir(&mount_point).unwrap();
    let log = BlockLog::over(empty_ext4(32));
    let cut = {
        let _disk = Disk::mount(&log.file(), &mount_point);
        let mut file = File::create(mount_point.join("records")).unwrap();
        for _ in 0..RECORDS {
            file.write_all(&RECORD).unwrap();
            if synced {
                file.sync_all().unwrap();
            }
        }
        if synced {
            File::open(&mount_point).unwrap().sync_all().unwrap();
        }
        log.cut(log.len(), keep, &mut 0x5EED_9057)
    };
    save(&cut, &image).unwrap();
    let _disk = Disk::mount(&image, &mount_point);
    read(mount_point.join("records")).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'x').count())
}
