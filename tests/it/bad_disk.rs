//! A disk that goes on failing: the appliance stays up and red, answers, and is well again when the disk is.

use std::time::{Duration, Instant};

use crate::support::{
    appliance::Appliance,
    faulty_disk::{Call, EIO, ENOSPC, FaultyDisk, How},
    ledger::Ledger,
    pki::Pki,
    receiver::{PATIENCE, Receiver},
};

/// Updates before, during and after.
const UPDATES: usize = 20;

#[tokio::test]
async fn appliance_outlives_a_disk_that_fails_for_a_while_and_is_well_again_without_a_restart() {
    let bad = [(Call::Write, EIO), (Call::Write, ENOSPC), (Call::Sync, EIO), (Call::Sync, ENOSPC)];
    for (call, error) in bad {
        let (pki, mut ledger) = (Pki::new(), Ledger::default());
        let mut receiver = Receiver::start(&pki).await;
        receiver.stop().await;
        let mut postern = Appliance::set_up(&pki).destination("crm", &receiver.url()).write();
        let disk = FaultyDisk::below(&postern.state_dir);
        postern.start_with(disk.under(&mut postern.run())).await;
        for turn in 0..UPDATES {
            assert_eq!(post(&postern, &mut ledger, turn).await, 200);
        }

        disk.fail(call, disk.count(call) + 1..=u64::MAX, How::Error(error));
        while post(&postern, &mut ledger, 0).await == 200 {}
        postern.wait_for_readiness(503).await;
        for turn in 0..UPDATES {
            assert_eq!(post(&postern, &mut ledger, turn).await, 503, "{call:?} {error}");
        }
        // It tries, and fails, and tries.
        let (tried, until) = (disk.failed(), Instant::now() + PATIENCE);
        while disk.failed() < tried + 2 {
            assert!(Instant::now() < until, "{call:?} {error}: it does not try");
            assert_eq!(postern.readiness().await, Some(503));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        disk.heal();
        postern.wait_for_readiness(200).await;
        for turn in 0..UPDATES {
            assert_eq!(post(&postern, &mut ledger, turn).await, 200, "{call:?} {error}");
        }
        receiver.start_again();
        assert!(postern.drains("crm", PATIENCE).await, "{call:?} {error}: {}", postern.admin("/metrics").await.1);
        ledger.all_of(&receiver.requests()).unwrap();
        assert!(postern.stop().await.success());
    }
}

/// Posts the next version of one of eight people; every one is answered.
async fn post(postern: &Appliance, ledger: &mut Ledger, turn: usize) -> u16 {
    let person = format!("p{}", turn % 8);
    let (version, update) = ledger.next(&person);
    let (status, _) = postern.try_post("web", &update).await.expect("an answer");
    if status == 200 {
        ledger.acknowledge(&person, version);
    }
    status
}
