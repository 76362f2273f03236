//! One store through many power cuts in a row, at the level of the file system.
//!
//! A small ext4 is shut down in mid-write without writing its journal, so all that was not synced is gone. The disk itself
//! loses nothing here, but what one cut left behind meets the next.

use std::time::Instant;

use crate::{
    disk::{Disk, format, in_memory},
    support::{
        appliance::Appliance,
        load::{Load, step},
        pki::Pki,
        receiver::Receiver,
    },
    trial::{alone, cuts, seed},
};

#[tokio::test]
#[ignore = "needs root, FUSE and loop devices"]
async fn one_store_survives_many_power_cuts_in_a_row() {
    let _alone = alone().await;
    let pki = Pki::new();
    let receiver = Receiver::start(&pki).await;
    let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
    std::fs::create_dir(&postern.state_dir).unwrap();
    let (directory, cuts, seed) = (in_memory(), cuts(), seed());
    let image = directory.path().join("image");
    format(&image, 256);
    let mut disk = Disk::mount(&image, &postern.state_dir);
    postern.start_again().await;
    let mut load = Load::start(&postern, &receiver);
    let (started, mut random) = (Instant::now(), seed);
    println!("one store, seed {seed:#x}");

    for _ in 0..cuts {
        load.wait_for(5 + step(&mut random) % 80).await;
        disk.shut_down();
        postern.kill();
        drop(disk);
        disk = Disk::mount(&image, &postern.state_dir);
        postern.start_again().await;
        // What was told after the cut may be false: the answers of an appliance without a disk.
        load.forget_unseen();
        load.go_on(&postern);
    }
    let seconds = started.elapsed().as_secs_f64();

    let counts = load.end(&postern, &receiver).await;
    assert_eq!(std::fs::read_dir(postern.state_dir.join("store/blobs")).map_or(0, Iterator::count), 0);
    assert!(postern.stop().await.success());
    let each = seconds / cuts as f64;
    println!(
        "one store, seed {seed:#x}: {cuts} cuts, 0 lost, 0 unopenable, {seconds:.1} s, {each:.2} s a cut; {counts:?}"
    );
}
