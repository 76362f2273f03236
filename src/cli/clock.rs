//! `postern clock`: whether the time is trusted.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    print,
    text::{bad, good},
};
use crate::admin::status::{ClockView, Status};

#[derive(Subcommand)]
pub(super) enum ClockVerb {
    /// Show what the clock tells, the latest time that is known to be over, and whether the clock is trusted
    Show(Asked),
    /// Take what the clock tells for right, whatever was known before; look at it first
    Trust(Asked),
}

#[derive(Args)]
pub(super) struct Asked {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn clock(verb: &ClockVerb) -> Result<(), Failure> {
    let (clock, output) = match verb {
        ClockVerb::Show(Asked { reach, output }) => {
            let status: Status = reach.get("/v1/status", NO_PARAMETERS)?;
            (status.clock, output)
        }
        ClockVerb::Trust(Asked { reach, output }) => (reach.post("/v1/clock/trust", NO_PARAMETERS)?, output),
    };
    if output.json {
        return print(&json!(clock));
    }
    let ClockView { now, mark, trusted, why_not } = &clock;
    let word = if *trusted { good("trusted") } else { bad("not trusted") };
    print(&format_args!("{now}  {}, {mark} is known to be over", word.paint()))?;
    why_not.iter().try_for_each(|why| print(why))
}
