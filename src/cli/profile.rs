//! `postern profile`: one profile by any of its identities, and forgetting it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Output,
    client::Reach,
    confirmed,
    exit::Exit,
    print,
    text::{Table, or_none},
};
use crate::admin::profiles::{ForgottenView, ProfileQuery, ProfileView};

#[derive(Subcommand)]
pub(super) enum ProfileVerb {
    /// Show a profile: identities, what each dataset says, memberships, exports
    Show(Show),
    /// Erase a profile with its waiting exports, dead letters and receipts
    Forget(Forget),
}

#[derive(Args)]
pub(super) struct Show {
    /// One of its identities, as NAMESPACE:VALUE
    identity: String,
    /// Show values and bodies too; for root and the appliance's own user
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Forget {
    /// One of its identities, as NAMESPACE:VALUE
    identity: String,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn profile(verb: ProfileVerb) -> Result<(), Failure> {
    match verb {
        ProfileVerb::Show(Show { identity, reveal, reach, output }) => {
            let view: ProfileView = reach.get("/v1/profiles", &ProfileQuery { identity, reveal })?;
            if output.json { print(&json!(view)) } else { whole(&view) }
        }
        ProfileVerb::Forget(Forget { identity, yes, reach, output }) => {
            let query = ProfileQuery { identity, reveal: false };
            if !yes {
                let view: ProfileView = reach.get("/v1/profiles", &query)?;
                let owed = view.exports.iter().filter(|export| export.state != "delivered").count();
                confirmed(false, &format!("erase this profile and {owed} exports that wait or are dead"))?;
            }
            let forgotten: ForgottenView = reach.delete("/v1/profiles", &query)?;
            match output.json {
                true => print(&json!(forgotten)),
                false => print(&format_args!(
                    "forgotten, with {} waiting exports, {} dead letters and {} receipts",
                    forgotten.exports, forgotten.letters, forgotten.receipts
                )),
            }?;
            match forgotten.stayed {
                0 => Ok(()),
                stayed => {
                    Err(Failure::of(Exit::TryLater, format_args!("{stayed} exports are being sent; forget it again")))
                }
            }
        }
    }
}

fn whole(ProfileView { identities, fragments, memberships, exports }: &ProfileView) -> Result<(), Failure> {
    for (namespace, values) in identities {
        print(&format_args!("identity      {namespace}: {}", values.join(", ")))?;
    }
    for fragment in fragments {
        print(&format_args!("dataset       {}, written at {}", fragment.dataset, fragment.written_at))?;
        print(&format_args!(
            "              {}",
            format!("{:#}", fragment.attributes).replace('\n', "\n              ")
        ))?;
    }
    for held in memberships {
        print(&format_args!(
            "audience      {} since {}: {}:{}",
            held.status, held.since, held.namespace, held.audience
        ))?;
    }
    if exports.is_empty() {
        return print(&"exports       none that waits, is dead, or has a receipt");
    }
    print(&"")?;
    let mut table = Table::new(["STATE", "DESTINATION", "ACCEPTED", "ENDED", "LAST OUTCOME", "EXPORT"]);
    for export in exports {
        let last = export.attempts.iter().chain(&export.last_trial).max_by_key(|attempt| &attempt.at);
        table.row([
            (&export.state).into(),
            (&export.destination).into(),
            or_none(export.accepted_at.as_ref()).into(),
            or_none(export.ended_at.as_ref()).into(),
            or_none(last.map(|attempt| &attempt.outcome)).into(),
            (&export.id).into(),
        ]);
    }
    table.print()
}
