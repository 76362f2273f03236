//! Coalescing: when a newer export may take the place of an older one of the same profile, and what it then tells. Pure.
//!
//! Whether the older one may still be replaced at all, that is waits and nobody has tried to send it, the store knows.

use serde_json::Value;

use crate::{
    audience::{AudienceId, RULE_NAMESPACE},
    destination::Coalesce,
    export::NewExport,
    profile::membership::Status,
    trigger::Reason,
};

/// Whether `newer` may take the place of an export that was made for the reasons `older`.
///
/// With [`Coalesce::KeepTransitions`] it must show whatever the older one would have told of audiences entered and left: an
/// entering that was followed by a leaving is told by an export of its own, and so is one that the mapping does not show any more.
/// What a person sends again goes by itself: it was asked for.
pub fn may_replace(older: &[Reason], newer: &NewExport) -> bool {
    let is_redrive = newer.reasons.iter().any(|reason| matches!(reason, Reason::Redrive(_)));
    match newer.coalesce {
        Coalesce::Off => false,
        Coalesce::All => !is_redrive,
        Coalesce::KeepTransitions => !is_redrive && shows_all(&newer.body, older.iter().filter_map(transition)),
    }
}

/// The reasons of both, each once; what happened last stands last.
pub fn united(mut older: Vec<Reason>, newer: &[Reason]) -> Vec<Reason> {
    older.retain(|reason| !newer.contains(reason));
    older.extend_from_slice(newer);
    older
}

fn transition(reason: &Reason) -> Option<(&AudienceId, Status)> {
    match reason {
        Reason::Realized(id) => Some((id, Status::Realized)),
        Reason::Exited(id) => Some((id, Status::Exited)),
        Reason::IdentityAdded | Reason::AttributeWritten(_) | Reason::Redrive(_) | Reason::Backfill(_) => None,
    }
}

fn shows_all<'a>(body: &[u8], transitions: impl Iterator<Item = (&'a AudienceId, Status)>) -> bool {
    let mut transitions = transitions.peekable();
    if transitions.peek().is_none() {
        return true;
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return false };
    let shown = &body["segmentMembership"][RULE_NAMESPACE];
    transitions.all(|(id, status)| shown[id.as_str()]["status"] == status.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, export::ExportId, profile::update::UpdateId};

    fn export(coalesce: Coalesce, reasons: Vec<Reason>, shown: &[(&str, &str)]) -> NewExport {
        let at = Timestamp::from_millis(0);
        let destination = "crm".parse().unwrap();
        let shown = shown.iter().map(|(id, status)| ((*id).to_owned(), serde_json::json!({ "status": status })));
        let shown: serde_json::Map<String, Value> = shown.collect();
        let body = serde_json::json!({ "segmentMembership": { "ups": shown } }).to_string().into_bytes();
        NewExport { id: ExportId::of(UpdateId::new(at), at, &destination), destination, body, reasons, coalesce }
    }

    fn entered(id: &str) -> Reason {
        Reason::Realized(id.parse().unwrap())
    }

    fn left(id: &str) -> Reason {
        Reason::Exited(id.parse().unwrap())
    }

    fn written(path: &str) -> Reason {
        Reason::AttributeWritten(path.to_owned())
    }

    #[test]
    fn what_was_entered_or_left_is_kept_unless_the_newer_one_tells_it_too() {
        let gold = ("gold", "realized");
        type Case<'a> = (&'a [Reason], Reason, &'a [(&'a str, &'a str)], bool);
        let cases: &[Case<'_>] = &[
            (&[], written("plan"), &[gold], true),
            (&[written("plan")], left("gold"), &[("gold", "exited")], true),
            (&[entered("gold")], written("plan"), &[gold], true),
            (&[entered("gold")], entered("vip"), &[gold, ("vip", "realized")], true),
            (&[entered("gold")], left("gold"), &[("gold", "exited")], false),
            (&[left("gold")], entered("gold"), &[gold], false),
            // Left long ago, or not mapped any more: the newer one does not show it.
            (&[left("gold")], written("plan"), &[("vip", "realized")], false),
            (&[entered("gold"), left("gold")], written("plan"), &[gold], false),
        ];
        for (older, newer, shown, keeps) in cases {
            let of = |coalesce| export(coalesce, vec![newer.clone()], shown);
            assert_eq!(may_replace(older, &of(Coalesce::KeepTransitions)), *keeps, "{older:?}, then {newer:?}");
            assert!(may_replace(older, &of(Coalesce::All)) && !may_replace(older, &of(Coalesce::Off)));
        }
    }

    #[test]
    fn what_a_person_sends_again_takes_nobodys_place() {
        let of = export(Coalesce::All, vec![], &[]).id;
        for coalesce in [Coalesce::All, Coalesce::KeepTransitions] {
            assert!(!may_replace(&[], &export(coalesce, vec![Reason::Redrive(of)], &[])));
            assert!(may_replace(&[Reason::Redrive(of)], &export(coalesce, vec![written("plan")], &[])));
        }
    }

    #[test]
    fn reasons_are_told_once_and_the_last_one_last() {
        let older = vec![entered("gold"), written("plan"), left("gold")];
        assert_eq!(united(older, &[entered("gold")]), [written("plan"), left("gold"), entered("gold")]);
        assert_eq!(united(vec![], &[written("plan")]), [written("plan")]);
    }
}
