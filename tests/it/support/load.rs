//! A load of rising versions, and what must be true of what a receiver got of it, however often the appliance went down.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    appliance::Appliance,
    receiver::{PATIENCE, Receiver, Request},
    reply::Reply,
    sender::{Sender, update, who},
};

const POSTERS: usize = 4;
const PEOPLE_EACH: usize = 8;

/// A person and a version.
pub type Update = (String, u64);

/// Posters at work, and what they were told.
pub struct Load {
    place: watch::Sender<Option<Sender>>,
    posters: JoinSet<()>,
    acknowledgements: mpsc::UnboundedReceiver<Update>,
    acknowledged: BTreeSet<Update>,
}

/// How many updates were acknowledged, how many received, and how many of those more than once.
#[derive(Debug)]
pub struct Counts {
    pub acknowledged: usize,
    pub received: usize,
    pub repeats: usize,
}

impl Load {
    /// Lets the receiver be slow, so that each end meets exports that wait, and fail each tenth export once.
    pub fn start(postern: &Appliance, receiver: &Receiver) -> Self {
        let failed_once = Mutex::new(HashSet::new());
        receiver.answer_by(move |request| {
            let tenth = request.body["version"].as_u64().unwrap().is_multiple_of(10);
            let first = tenth && failed_once.lock().unwrap().insert(request.idempotency_key().unwrap().to_owned());
            Reply::Late(Duration::from_millis(60), Box::new(Reply::status(if first { 500 } else { 200 })))
        });
        let place = watch::Sender::new(Some(postern.sender()));
        let (acknowledge, acknowledgements) = mpsc::unbounded_channel();
        let mut posters = JoinSet::new();
        for poster in 0..POSTERS {
            posters.spawn(post_until_closed(poster, place.subscribe(), acknowledge.clone()));
        }
        Self { place, posters, acknowledgements, acknowledged: BTreeSet::new() }
    }

    /// Waits until so many more are acknowledged; others are under way then.
    pub async fn wait_for(&mut self, more: u64) {
        for _ in 0..more {
            self.acknowledged.insert(self.acknowledgements.recv().await.unwrap());
        }
    }

    /// Forgets what was acknowledged and not yet looked at.
    pub fn forget_unseen(&mut self) {
        while self.acknowledgements.try_recv().is_ok() {}
    }

    /// Goes on where the appliance is now.
    pub fn go_on(&self, postern: &Appliance) {
        self.place.send_replace(Some(postern.sender()));
    }

    /// Ends the load, waits until all is delivered, and checks it.
    pub async fn end(mut self, postern: &Appliance, receiver: &Receiver) -> Counts {
        self.place.send_replace(None);
        while let Some(ended) = self.posters.join_next().await {
            ended.unwrap();
        }
        while let Some(update) = self.acknowledgements.recv().await {
            self.acknowledged.insert(update);
        }
        // After hundreds of ends more waits than a slow receiver takes in time.
        receiver.answer_with(200);
        assert!(postern.drains("crm", 3 * PATIENCE).await, "not drained: {}", postern.admin("/metrics").await.1);
        postern.wait_for_metric(r#"postern_exports{destination="crm",state="dead"}"#, 0.0).await;
        let (received, repeats) = in_order(&receiver.requests()).unwrap();
        let lost: Vec<_> = self.acknowledged.difference(&received).collect();
        let counts = Counts { acknowledged: self.acknowledged.len(), received: received.len(), repeats };
        assert!(lost.is_empty(), "{counts:?}: acknowledged and lost: {lost:?}");
        counts
    }
}

/// Posts ever higher versions of its people to wherever the appliance is, one after the other, and tells which were
/// acknowledged.
async fn post_until_closed(
    poster: usize,
    mut place: watch::Receiver<Option<Sender>>,
    acknowledge: mpsc::UnboundedSender<Update>,
) {
    for turn in 0.. {
        let (person, version) = (format!("p{poster}-{}", turn % PEOPLE_EACH), (turn / PEOPLE_EACH + 1) as u64);
        let Some(sender) = place.borrow_and_update().clone() else { return };
        match sender.try_post("web", &update(&person, json!({ "plan": "gold", "version": version }))).await {
            Some((200, _)) => acknowledge.send((person, version)).unwrap(),
            // Its disk is gone, or it was killed: it may or may not have been kept. The next version goes to where it
            // starts again.
            Some((503, _)) | None => place.changed().await.unwrap(),
            Some((status, answer)) => panic!("{status} {answer}"),
        }
    }
}

/// Checks that each person's versions rise, and that a repeat is of the latest alone and the same in all. Returns what was
/// received, and how many repeats there were; or what is wrong.
pub fn in_order<'r>(requests: impl IntoIterator<Item = &'r Request>) -> Result<(BTreeSet<Update>, usize), String> {
    let mut latest: BTreeMap<&str, (u64, &Request)> = BTreeMap::new();
    let mut keys: HashMap<&str, Update> = HashMap::new();
    let (mut received, mut repeats) = (BTreeSet::new(), 0);
    for request in requests {
        let (person, version) = (who(&request.body), request.body["version"].as_u64().unwrap());
        let key = request.idempotency_key().unwrap();
        match latest.insert(person, (version, request)) {
            Some((before, earlier)) if before == version => {
                if earlier.idempotency_key() != Some(key) || earlier.raw_body != request.raw_body {
                    return Err(format!("{person} {version}: repeated with another key or body"));
                }
                repeats += 1;
            }
            Some((before, _)) if before > version => {
                let again = if keys.contains_key(key) { " again" } else { "" };
                return Err(format!("{person}: {version} came{again} after {before}"));
            }
            Some(_) | None => {
                if let Some(other) = keys.insert(key, (person.to_owned(), version)) {
                    return Err(format!("{person} {version}: the key of {other:?}"));
                }
                received.insert((person.to_owned(), version));
            }
        }
    }
    Ok((received, repeats))
}

/// The next of some numbers that look random (xorshift).
pub fn step(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
