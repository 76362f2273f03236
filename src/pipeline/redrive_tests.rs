//! Dead letters, redriven through a real store: what is sent in their place, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    tests::{identity, update},
    *,
};
use crate::{
    audience::rule::Rule,
    export::{Attempt, Cause, DeadLetter, Next, Outcome},
    store::{Keeping, Receipts, State, StoreOwner},
};

struct Tried {
    _dir: TempDir,
    owner: StoreOwner,
    pipeline: Pipeline,
    second: i64,
}

fn crm() -> DestinationId {
    "crm".parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// Audience `gold` is mapped to `crm`, with `name`.
fn start(receipts: Receipts) -> Tried {
    let dir = tempfile::tempdir().unwrap();
    let rule = Rule::parse(r#"plan = "gold""#).unwrap();
    let gold = Audience {
        id: "gold".parse().unwrap(),
        name: "gold".to_owned(),
        created_at: None,
        updated_at: None,
        policy: Default::default(),
        rule,
    };
    let attributes = vec!["name".parse().unwrap()];
    let mapping = Mapping::new(crm(), vec![gold.id.clone()], attributes);
    let owner = StoreOwner::open(dir.path(), &[crm()], &Keeping { receipts, ..Keeping::default() }).unwrap();
    let pipeline = Pipeline::new(fixed(Plan::new(vec![gold], vec![mapping])), owner.store());
    Tried { _dir: dir, owner, pipeline, second: 0 }
}

#[derive(PartialEq)]
enum End {
    Dead,
    Delivered,
    Waits,
}

impl Tried {
    /// Takes an update, and ends its export.
    async fn send(&mut self, ids: &[&str], attributes: Value, end: End) -> u64 {
        self.second += 1;
        let ids: Vec<(&str, &str)> = ids.iter().map(|id| ("CRM", *id)).collect();
        self.pipeline.take(update(self.second, &ids, attributes), ()).await.unwrap();
        let store = self.owner.store();
        let queue = store.queue(&crm()).unwrap();
        let claim = queue.claim_head(0).unwrap();
        let (number, export, at) = (claim.number(), claim.export.clone(), at(self.second));
        match end {
            End::Dead => store.settle(claim, Next::Dead(DeadLetter { export, at, cause: Cause::Refused }), None),
            End::Delivered => {
                store.settle(claim, Next::Delivered(Attempt::new(at, Outcome::Delivered(200))), None);
            }
            End::Waits => drop(claim),
        }
        store.counters().await.unwrap();
        number
    }

    async fn redrive(&self, number: u64, how: Redrive) -> Result<Redriven, NotRedriven> {
        self.pipeline.redrive(&crm(), number, how, at(self.second + 1)).await
    }

    /// Body and reasons of the export of this id, which waits.
    fn made(&self, redriven: Redriven) -> (Value, Vec<Reason>) {
        let Redriven::Exported(id) = redriven else { panic!("it is moot") };
        let store = self.owner.store();
        let (destination, number) = store.find(id).unwrap().unwrap();
        let whole = store.export(&destination, number).unwrap().unwrap();
        assert!(matches!(whole.state, State::Waiting(_)) && !whole.in_flight);
        (serde_json::from_slice(&whole.body).unwrap(), whole.reasons)
    }

    fn letter(&self, number: u64) -> ExportId {
        self.owner.store().export(&crm(), number).unwrap().unwrap().state.export().id
    }
}

#[tokio::test]
async fn redriven_letter_becomes_an_export_of_the_present_state() {
    let mut tried = start(Receipts::default());
    let letter = tried.send(&["1"], json!({ "plan": "gold", "name": "then" }), End::Dead).await;
    tried.send(&["1"], json!({ "name": "now" }), End::Delivered).await;
    let of = tried.letter(letter);

    let redriven = tried.redrive(letter, Redrive::Present).await.unwrap();

    let (body, reasons) = tried.made(redriven);
    assert_eq!((&body["name"], reasons.last()), (&json!("now"), Some(&Reason::Redrive(of))));
    let counters = tried.owner.store().counters().await.unwrap();
    let crm = counters.destinations[&crm()];
    assert_eq!((crm.made, crm.delivered, crm.waiting, crm.dead, crm.redriven), (3, 1, 1, 0, 1));
    let again = tried.redrive(letter, Redrive::Present).await;
    assert!(matches!(again, Err(NotRedriven::Missing { .. })), "{again:?}");
}

#[tokio::test]
async fn letter_of_a_profile_that_left_is_moot() {
    let mut tried = start(Receipts::default());
    let letter = tried.send(&["1"], json!({ "plan": "gold" }), End::Dead).await;
    tried.send(&["1"], json!({ "plan": "none" }), End::Delivered).await;

    assert_eq!(tried.redrive(letter, Redrive::Present).await.unwrap(), Redriven::Moot);

    let crm = tried.owner.store().counters().await.unwrap().destinations[&crm()];
    assert_eq!((crm.made, crm.delivered, crm.dead, crm.moot), (2, 1, 0, 1));
}

#[tokio::test]
async fn letter_is_sent_as_it_was_until_something_newer_is_on_its_way() {
    for (newer, refused) in
        [(None, false), (Some(End::Dead), false), (Some(End::Waits), true), (Some(End::Delivered), true)]
    {
        let mut tried = start(Receipts::default());
        tried.send(&["other"], json!({ "plan": "gold" }), End::Delivered).await;
        let letter = tried.send(&["1"], json!({ "plan": "gold", "name": "then" }), End::Dead).await;
        if let Some(end) = newer {
            tried.send(&["1"], json!({ "name": "now" }), end).await;
        }
        tried.send(&["other"], json!({ "name": "x" }), End::Delivered).await;

        let redriven = tried.redrive(letter, Redrive::AsWas).await;

        match redriven {
            Ok(redriven) => assert!(!refused && tried.made(redriven).0["name"] == "then"),
            Err(why) => assert!(refused && matches!(why, NotRedriven::Overtaken), "{why}"),
        }
    }
}

#[tokio::test]
async fn letter_is_overtaken_by_what_the_profile_sent_that_it_was_joined_into() {
    let mut tried = start(Receipts::default());
    tried.send(&["1"], json!({ "plan": "gold" }), End::Delivered).await;
    let letter = tried.send(&["2"], json!({ "plan": "gold", "name": "second" }), End::Dead).await;
    tried.send(&["1", "2"], json!({ "name": "both" }), End::Delivered).await;

    let as_was = tried.redrive(letter, Redrive::AsWas).await;
    let present = tried.redrive(letter, Redrive::Present).await.unwrap();

    assert!(matches!(as_was, Err(NotRedriven::Overtaken)), "{as_was:?}");
    let (body, _) = tried.made(present);
    assert_eq!(body["identityMap"]["CRM"], json!([{ "id": "1" }, { "id": "2" }]));
}

#[tokio::test]
async fn without_receipts_nothing_is_sent_as_it_was_once_anything_newer_was_delivered() {
    let mut tried = start(Receipts { kept: Duration::ZERO, ..Receipts::default() });
    tried.send(&["2"], json!({ "plan": "gold" }), End::Delivered).await;
    let [early, late] = [
        tried.send(&["1"], json!({ "plan": "gold", "name": "then" }), End::Dead).await,
        tried.send(&["3"], json!({ "plan": "gold", "name": "then" }), End::Dead).await,
    ];
    let sure = tried.redrive(late, Redrive::AsWas).await.unwrap();
    assert_eq!(tried.made(sure).0["name"], "then");
    let store = tried.owner.store();
    let number = store.waiting(&crm(), 0, 1).unwrap()[0].0;
    store.drop_export(&crm(), number).await.unwrap();
    tried.send(&["2"], json!({ "name": "x" }), End::Delivered).await;

    let refused = tried.redrive(early, Redrive::AsWas).await;

    assert!(matches!(refused, Err(NotRedriven::Uncertain)), "{refused:?}");
    assert_eq!(store.counters().await.unwrap().receipts, 0);
}

#[tokio::test]
async fn letter_of_a_destination_that_is_not_mapped_stays() {
    let mut tried = start(Receipts::default());
    let letter = tried.send(&["1"], json!({ "plan": "gold" }), End::Dead).await;
    tried.pipeline = Pipeline::new(fixed(Plan::default()), tried.owner.store());

    let refused = tried.redrive(letter, Redrive::Present).await;

    assert!(matches!(refused, Err(NotRedriven::NotConfigured(_))), "{refused:?}");
    assert_eq!(tried.owner.store().counters().await.unwrap().destinations[&crm()].dead, 1);
}

#[tokio::test]
async fn profile_is_found_by_any_identity_with_all_that_it_is_owed() {
    let mut tried = start(Receipts::default());
    tried.send(&["1", "2"], json!({ "plan": "gold" }), End::Dead).await;
    tried.send(&["1"], json!({ "name": "b" }), End::Delivered).await;
    tried.send(&["1"], json!({ "name": "c" }), End::Waits).await;
    let store = tried.owner.store();

    let profile = Profile::read(&store.profile(&identity("crm", "2")).unwrap().unwrap()).unwrap();

    let owed = store.exports_of(&profile.lines(), 10).unwrap();
    let numbers: Vec<(u64, bool)> =
        owed.iter().map(|((_, number), state)| (*number, matches!(state, State::Dead(_)))).collect();
    assert_eq!((numbers, store.exports_of(&profile.lines(), 1).unwrap().len()), (vec![(3, false), (1, true)], 1));
    let receipts = store.receipts(&profile.lines()).unwrap();
    assert_eq!((receipts.len(), receipts[0].number, receipts[0].status), (1, 2, 200));
    assert_eq!(store.receipt(receipts[0].export).unwrap().as_ref(), Some(&receipts[0]));
    assert_eq!(store.profile(&identity("CRM", "3")).unwrap(), None);
    let of_nothing = ExportId::of(UpdateId::new(at(1)), at(1), &"erp".parse().unwrap());
    assert_eq!((store.find(of_nothing).unwrap(), store.receipt(of_nothing).unwrap()), (None, None));
}

/// A plan that nobody replaces.
fn fixed(plan: Plan) -> watch::Receiver<Arc<Plan>> {
    watch::channel(Arc::new(plan)).1
}
