//! `postern audit`: the proof that everything adds up.

use clap::Args;
use indicatif::HumanCount;
use serde_json::json;

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    exit::Exit,
    print,
    text::{bad, good},
};
use crate::admin::upkeep::AuditView;

#[derive(Args)]
pub(super) struct AuditArguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn audit(AuditArguments { reach, output }: AuditArguments) -> Result<(), Failure> {
    let view: AuditView = reach.get("/v1/audit", NO_PARAMETERS)?;
    let AuditView { adds_up, differences, sums, profiles, waiting, letters, damaged, exact } = &view;
    if output.json {
        print(&json!(view))?;
    } else {
        sums.iter().try_for_each(|sum| print(sum))?;
        let [profiles, waiting, letters] = [profiles, waiting, letters].map(|count| HumanCount(*count));
        let about = if *exact { "" } else { ", while others came and went" };
        print(&format_args!(
            "counted one by one{about}: {profiles} profiles, {waiting} waiting exports, {letters} dead letters; {damaged} fail \
             their checksum"
        ))?;
        differences.iter().try_for_each(|difference| print(&bad(difference).paint()))?;
        if *adds_up {
            print(&good("everything adds up").paint())?;
        }
    }
    match adds_up {
        true => Ok(()),
        false => Err(Failure::of(
            Exit::Failed,
            "not everything adds up; `postern store check` on the stopped store says more",
        )),
    }
}
