//! What was acknowledged and what was received, and how long the disk's log was at that moment.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    blocklog::Marker,
    support::{
        appliance::Appliance,
        load::Update,
        receiver::{Receiver, Request},
        reply::Reply,
        sender::{Sender, update},
    },
};

/// What updates are like, and how many there are.
#[derive(Clone, Copy)]
pub struct Shape {
    pub updates: u64,
    /// The length of the attribute `name`.
    pub name_bytes: usize,
}

const POSTERS: u64 = 4;
const PEOPLE_EACH: u64 = 6;
/// So slow is the receiver, so that there are always exports that wait.
const SLOW: Duration = Duration::from_millis(4);

/// What happened on the outside of an appliance.
#[derive(Clone, Default)]
pub struct History(Arc<Mutex<Events>>);

#[derive(Clone, Default)]
pub struct Events {
    /// The mark was taken when the answer had come: all of it is in that much of the log.
    acknowledged: Vec<(usize, Update)>,
    /// The mark was taken when the request had come: its settlement is not in that much of the log.
    received: Vec<(usize, Receipt)>,
}

#[derive(Clone)]
pub struct Receipt {
    pub request: Request,
    pub accepted: bool,
}

impl History {
    /// Posts ever higher versions of some people, and waits until all are acknowledged.
    pub async fn post(&self, postern: &Appliance, mark: &Marker, shape: Shape) {
        let mut posters = JoinSet::new();
        for poster in 0..POSTERS {
            posters.spawn(self.clone().post_some(poster, postern.sender(), mark.clone(), shape));
        }
        while let Some(ended) = posters.join_next().await {
            ended.unwrap();
        }
    }

    async fn post_some(self, poster: u64, sender: Sender, mark: Marker, shape: Shape) {
        for turn in 0..shape.updates / POSTERS {
            let (person, version) = (format!("p{poster}-{}", turn % PEOPLE_EACH), turn / PEOPLE_EACH + 1);
            let name = format!("{person} {version} ").repeat(shape.name_bytes / (person.len() + 3));
            let body = update(&person, json!({ "plan": "gold", "version": version, "name": name }));
            let answer = sender.try_post("web", &body).await.unwrap();
            assert_eq!(answer.0, 200, "{}", answer.1);
            self.events().acknowledged.push((mark(), (person, version)));
        }
    }

    /// Notes what the receiver gets from now on. It fails each tenth version once if it is `moody`.
    pub fn note(&self, receiver: &Receiver, mark: &Marker, moody: bool) {
        let (events, mark, failed) = (self.0.clone(), mark.clone(), Mutex::new(BTreeSet::new()));
        receiver.answer_by(move |request| {
            let tenth = request.body["version"].as_u64().unwrap().is_multiple_of(10);
            let fails = moody && tenth && failed.lock().unwrap().insert(request.idempotency_key().unwrap().to_owned());
            let receipt = Receipt { request: request.clone(), accepted: !fails };
            events.lock().unwrap().received.push((mark(), receipt));
            Reply::Late(SLOW, Box::new(Reply::status(if fails { 500 } else { 200 })))
        });
    }

    pub fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap()
    }
}

impl Events {
    /// What had happened when the log was so long, as from before the log of what comes next.
    pub fn until(&self, mark: usize) -> Self {
        Self {
            acknowledged: self
                .acknowledged
                .iter()
                .filter(|(at, _)| *at <= mark)
                .map(|(_, it)| (0, it.clone()))
                .collect(),
            received: self.received.iter().filter(|(at, _)| *at <= mark).map(|(_, it)| (0, it.clone())).collect(),
        }
    }

    pub fn and(mut self, later: Self) -> Self {
        self.acknowledged.extend(later.acknowledged);
        self.received.extend(later.received);
        self
    }

    pub fn acknowledged(&self) -> impl Iterator<Item = &Update> {
        self.acknowledged.iter().map(|(_, update)| update)
    }

    pub fn received(&self) -> impl Iterator<Item = &Receipt> {
        self.received.iter().map(|(_, receipt)| receipt)
    }
}
