//! Profiles that are gone over while they change, are joined, forgotten and sent again: what is left is what rules say, and
//! nobody was sent anything older after anything newer.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{tests::*, *};
use crate::{
    audience::rule::Rule,
    destination::UniqueId,
    export::{Attempt, Cause as DeathCause, DeadLetter, Next, Outcome},
    profile::{identity::Namespace, policy::Merge},
    store::{Keeping, StoreOwner},
    walk::{Cause, Errand, Walk},
};

const CRM: &str = "crm";

fn plan(rule: &str) -> Plan {
    let gold = Audience {
        id: "gold".parse().unwrap(),
        name: "gold".to_owned(),
        created_at: None,
        updated_at: None,
        policy: Default::default(),
        rule: Rule::parse(rule).unwrap(),
    };
    let attributes = ["plan", "version"].map(|path| path.parse().unwrap()).to_vec();
    Plan::new(vec![gold], vec![Mapping::new(CRM.parse().unwrap(), vec!["gold".parse().unwrap()], attributes)])
}

fn backfill() -> Errand {
    Errand::Backfill { destination: CRM.parse().unwrap(), audiences: vec!["gold".parse().unwrap()] }
}

fn profile(plan: &Plan, attributes: Value) -> Profile {
    let change = decide(plan, vec![], vec![], &update(1, &[("CRM", "ada")], attributes)).unwrap();
    Profile::read(&change.snapshot).unwrap()
}

#[test]
fn profile_is_exported_once_for_all_reasons_and_left_alone_for_none() {
    let (before, after) = (plan(r#"plan = "gold""#), plan(r#"plan = "tin""#));
    let gold: AudienceId = "gold".parse().unwrap();
    let now = Timestamp::from_millis(9_000);
    let [member, other] = ["gold", "tin"].map(|word| profile(&before, json!({ "plan": word })));
    for (plan, of, errand, expected) in [
        (&before, &member, Errand::Evaluate, None),
        (&before, &other, backfill(), None),
        (&before, &member, backfill(), Some(vec![Reason::Backfill(gold.clone())])),
        (&after, &member, Errand::Evaluate, Some(vec![Reason::Exited(gold.clone())])),
        (&after, &member, backfill(), Some(vec![Reason::Exited(gold.clone())])),
        (&after, &other, Errand::Evaluate, Some(vec![Reason::Realized(gold.clone())])),
        (&after, &other, backfill(), Some(vec![Reason::Realized(gold.clone()), Reason::Backfill(gold.clone())])),
    ] {
        let change = review(plan, of.clone(), &errand, now);
        let exports = change.as_ref().map(|change| {
            assert_eq!((change.key, change.exports.len(), change.accepted_at), (of.key, 1, now));
            change.exports[0].reasons.clone()
        });
        assert_eq!(exports, expected, "{errand:?}");
        let again = change.map(|change| Profile::read(&change.snapshot).unwrap());
        let quiet = again.is_none_or(|profile| review(plan, profile, &Errand::Evaluate, now).is_none());
        assert!(quiet, "what was evaluated stays as it is");
    }
}

#[test]
fn member_without_the_unique_id_is_skipped_and_members_are_counted() {
    let (before, mut after) = (plan(r#"plan = "gold""#), plan(r#"plan = "tin""#));
    after.mappings[0].unique_id = Some(UniqueId::Namespace(Namespace::parse("ECID").unwrap()));
    let other = profile(&before, json!({ "plan": "tin" }));

    let change = review(&after, other, &backfill(), Timestamp::from_millis(9_000)).unwrap();

    assert_eq!((change.exports.len(), &change.skipped[..]), (0, &[CRM.parse().unwrap()][..]));
    assert_eq!(change.members, Tally::from([("ups:gold".to_owned(), 1)]));
}

#[derive(Clone, Debug)]
enum Act {
    Update { person: usize, plan: &'static str },
    Join { one: usize, other: usize },
    Forget { person: usize },
    Die,
    Redrive,
    Step { most: usize },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let plan = prop_oneof![Just("gold"), Just("tin"), Just("lead")];
    let act = prop_oneof![
        6 => (0..8usize, plan).prop_map(|(person, plan)| Act::Update { person, plan }),
        2 => (0..8usize, 0..8usize).prop_map(|(one, other)| Act::Join { one, other }),
        1 => (0..8usize).prop_map(|person| Act::Forget { person }),
        2 => Just(Act::Die),
        2 => Just(Act::Redrive),
        5 => (1..4usize).prop_map(|most| Act::Step { most }),
    ];
    prop::collection::vec(act, 0..40)
}

struct Tried {
    pipeline: Pipeline,
    store: Store,
    version: u64,
    walks: Vec<Walk>,
}

impl Tried {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.version as i64)
    }

    async fn take(&mut self, people: &[usize], attributes: Value) {
        self.version += 1;
        let names: Vec<String> = people.iter().map(usize::to_string).collect();
        let ids: Vec<(&str, &str)> = names.iter().map(|name| ("CRM", name.as_str())).collect();
        let mut attributes = attributes;
        attributes["version"] = self.version.into();
        let update = ProfileUpdate { received_at: self.now(), ..update(0, &ids, attributes) };
        self.pipeline.take(update, ()).await.unwrap();
    }

    async fn act(&mut self, act: Act) {
        let crm = CRM.parse().unwrap();
        match act {
            Act::Update { person, plan } => self.take(&[person], json!({ "plan": plan })).await,
            Act::Join { one, other } => self.take(&[one, other], json!({})).await,
            Act::Forget { person } => drop(self.store.forget(&identity("CRM", &person.to_string())).await.unwrap()),
            Act::Die => {
                let claims = self.store.queue(&crm).unwrap().claim_due(self.now(), 1);
                for claim in claims {
                    let mut export = claim.export.clone();
                    export.attempts.push(Attempt::new(self.now(), Outcome::Refused(422)));
                    let letter = DeadLetter { export, at: self.now(), cause: DeathCause::Refused };
                    self.store.settle(claim, Next::Dead(letter), None);
                }
                self.store.counters().await.unwrap();
            }
            Act::Redrive => {
                let letters = self.store.dead_letters(&crm, 0, 1).unwrap();
                for (number, _) in letters {
                    self.pipeline.redrive(&crm, number, Redrive::Present, self.now()).await.unwrap();
                }
            }
            Act::Step { most } => self.step(most).await,
        }
    }

    async fn step(&mut self, most: usize) {
        let now = self.now();
        let Some(walk) = self.walks.iter_mut().find(|walk| walk.is_owed()) else { return };
        let room = BTreeMap::from([(CRM.parse().unwrap(), 2)]);
        *walk = self.pipeline.walk_on(walk.id, most, room, now).await.unwrap().unwrap().walk;
    }

    /// Every export that there is, by number: its lines, its reasons, its body.
    fn exports(&self) -> Vec<(u64, Vec<ProfileKey>, Vec<Reason>, Value)> {
        let crm: DestinationId = CRM.parse().unwrap();
        let waiting = self.store.waiting(&crm, 0, usize::MAX).unwrap().into_iter().map(|(number, _)| number);
        let dead = self.store.dead_letters(&crm, 0, usize::MAX).unwrap().into_iter().map(|(number, _)| number);
        let mut numbers: Vec<u64> = waiting.chain(dead).collect();
        numbers.sort();
        let whole = |number: u64| {
            let whole = self.store.export(&crm, number).unwrap().unwrap();
            let body = serde_json::from_slice(&whole.body).unwrap();
            (number, whole.state.export().lines.clone(), whole.reasons, body)
        };
        numbers.into_iter().map(whole).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_between_all_end_as_rules_say_and_nothing_older_follows_newer(before in acts(), during in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(goes_over(before, during));
    }
}

async fn goes_over(before: Vec<Act>, during: Vec<Act>) {
    let dir = tempfile::tempdir().unwrap();
    let owner = StoreOwner::open(dir.path(), &[CRM.parse().unwrap()], &Keeping::default()).unwrap();
    let plans = watch::Sender::new(Arc::new(plan(r#"plan = "gold""#)));
    let (store, pipeline) = (owner.store(), Pipeline::new(plans.subscribe(), owner.store()));
    let mut tried = Tried { pipeline, store: store.clone(), version: 0, walks: vec![] };
    for act in before {
        tried.act(act).await;
    }
    let first_of_walk = tried.exports().last().map_or(1, |(number, ..)| number + 1);
    plans.send_replace(Arc::new(plan(r#"plan = "tin""#)));
    for errand in [Errand::Evaluate, backfill()] {
        let walk = Walk::new(errand, Cause::Rules, tried.now());
        store.owe(walk.clone()).await.unwrap();
        tried.walks.push(walk);
    }

    for act in during {
        tried.act(act).await;
    }
    let counted = tried.pipeline.count(&CRM.parse().unwrap(), &backfill(), tried.now()).unwrap();
    while tried.walks.iter().any(Walk::is_owed) {
        tried.step(3).await;
    }

    let (exports, gold) = (tried.exports(), "gold".parse().unwrap());
    let profiles = store.snapshots(None, usize::MAX).unwrap();
    let profiles: Vec<Profile> =
        profiles.iter().map(|(_, bytes)| Profile::read(bytes.as_ref().unwrap()).unwrap()).collect();
    let until = tried.walks[1].began.unwrap().until;
    let mut members = 0;
    for profile in &profiles {
        let view = profile.view(&Merge::default());
        let is_in = profile.memberships.status(RULE_NAMESPACE, &gold) == Some(Status::Realized);
        assert_eq!(is_in, view.get("plan") == Some(&json!("tin")));
        let mut theirs = exports.iter().filter(|(_, lines, ..)| lines.contains(&profile.key)).collect::<Vec<_>>();
        let versions: Vec<u64> = theirs.iter().map(|(.., body)| body["version"].as_u64().unwrap()).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        let backfilled = |(_, lines, reasons, _): &&&(_, Vec<ProfileKey>, Vec<Reason>, _)| {
            lines[0] == profile.key && reasons.contains(&Reason::Backfill(gold.clone()))
        };
        assert!(theirs.iter().filter(backfilled).count() <= 1);
        let last = theirs.pop();
        let shown = last.map(|(.., body)| body["segmentMembership"]["ups"]["gold"]["status"] == "realized");
        if is_in {
            members += 1;
            assert_eq!(last.map(|(.., body)| &body["version"]), view.get("version"));
            assert!(last.unwrap().0 >= first_of_walk || Some(profile.key) > until);
        }
        assert!(shown.unwrap_or_default() == is_in, "the last export says how it is");
    }
    assert_eq!(counted.profiles, profiles.len() as u64);
    let kept = store.members().unwrap().get("ups:gold").copied().unwrap_or_default();
    assert_eq!(kept, members);
    let count = tokio::task::spawn_blocking(move || store.count_all().unwrap()).await.unwrap();
    assert_eq!(count.differences, [] as [String; 0]);
    owner.close();
}
