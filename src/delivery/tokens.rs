//! The token of one destination: asked for once for all exports that wait for it, and replaced before it runs out.
//!
//! Whoever first finds none asks for one; the others wait for what came of that, good or bad. Near its end the first to notice
//! asks for the next one, while the others go on with the one there is. A token is in memory alone, and belongs to one pair of
//! ours: a token endpoint may have tied it to the certificate that it saw.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{CONNECT_TIMEOUT, sender::UNPROCESSED_MAX};
use crate::{
    clock::{Clock, Timestamp},
    destination::{Destination, DestinationId, OAuth2, TokenMtls},
    tls::{
        Answer, ClientTls, HttpVersion, HttpsUrl, Limits, MutualClient, MutualClientError, OfferingClient, Origin,
        PostError,
    },
    token::{self, Access, Ask, Refusal, Token, TokenFault, TokenRequest},
};

/// How long before its end a token is replaced, or a tenth of its life where that is shorter: a request that goes out with it
/// has time to arrive.
const AHEAD_MAX: Duration = Duration::from_secs(30);
/// How long after a refresh that failed the next one is tried, while the token is good still.
const AGAIN: Duration = Duration::from_secs(5);

/// The token of one destination over one pair of ours. Clones share it.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Shared>);

struct Shared {
    destination: DestinationId,
    client: Client,
    url: HttpsUrl,
    access: Access,
    clock: Clock,
    state: Mutex<State>,
}

/// Which kind of connections a token is asked for over.
enum Client {
    Mutual(MutualClient),
    Offering(OfferingClient),
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    refresh: Option<SecretString>,
    /// What comes of the request under way.
    flight: Option<watch::Receiver<Option<Landed>>>,
    /// How many tokens there were.
    count: u64,
}

/// A token in use.
struct Held {
    ticket: Ticket,
    asked_at: Timestamp,
    refresh_at: Timestamp,
    ends_at: Timestamp,
}

/// What a request takes along.
#[derive(Clone)]
pub(super) struct Ticket {
    number: u64,
    /// `Bearer …`, marked as secret.
    pub(super) authorization: HeaderValue,
}

pub(super) type Landed = Result<Ticket, Refusal>;

enum Step {
    Use(Ticket),
    Wait(watch::Receiver<Option<Landed>>),
    Fetch(watch::Sender<Option<Landed>>),
}

impl Tokens {
    /// Of a destination, over connections with this pair.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub(super) fn new(
        destination: &Destination,
        OAuth2 { token_url, token_mtls, access, timeout }: &OAuth2,
        tls: &ClientTls,
        clock: Clock,
    ) -> Result<Self, MutualClientError> {
        let limits = Limits { connect: CONNECT_TIMEOUT, answer: *timeout };
        // One request in a while needs no HTTP/2, and an endpoint of somebody else may not speak it.
        let tls = &tls.clone().with_http(HttpVersion::Http11);
        // What it is reached from is no news of the destination.
        let origin = Origin::new(destination.local_address);
        let client = match token_mtls {
            TokenMtls::Require => Client::Mutual(MutualClient::sending_from(&origin, tls, limits, clock.clone())?),
            TokenMtls::Offer => Client::Offering(OfferingClient::sending_from(&origin, tls, limits, clock.clone())?),
        };
        let (destination, url, access) = (destination.id().clone(), token_url.clone(), access.clone());
        Ok(Self(Arc::new(Shared { destination, client, url, access, clock, state: Mutex::default() })))
    }

    /// A token that is good now, waited for if need be.
    ///
    /// # Errors
    /// [`Refusal`]: there is none, and why.
    pub(super) async fn token(&self) -> Landed {
        loop {
            let step = self.0.state().step(self.0.clock.now());
            match step {
                Step::Use(ticket) => return Ok(ticket),
                Step::Fetch(landing) => return self.0.fetch(&landing).await,
                Step::Wait(mut flight) => match flight.wait_for(Option::is_some).await {
                    Ok(landed) => return landed.clone().expect("it was waited for"),
                    // Who asked was given up.
                    Err(_) => continue,
                },
            }
        }
    }

    /// Uses a token no more: the destination answered it 401.
    pub(super) fn discard(&self, ticket: &Ticket) {
        self.0.state().held.take_if(|held| held.ticket.number == ticket.number);
    }

    /// Takes note that a fresh token met 401 too: the next one is asked for by the grant itself.
    pub(super) fn not_accepted(&self) {
        self.0.state().refresh = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self, landing: &watch::Sender<Option<Landed>>) -> Landed {
        let (asked_at, refresh) = (self.clock.now(), self.state().refresh.clone());
        let asked = match &refresh {
            None => self.ask(Ask::Grant).await,
            Some(refresh) => match self.ask(Ask::Refresh(refresh)).await {
                // It has run out, or was withdrawn; an endpoint may say so in any way it likes.
                Err(Refusal { fault: TokenFault::Refused(_) | TokenFault::BadAnswer, .. }) => {
                    self.state().refresh = None;
                    self.ask(Ask::Grant).await
                }
                asked => asked,
            },
        };
        let now = self.clock.now();
        let mut state = self.state();
        state.flight = None;
        let landed = match asked {
            Ok(token) => {
                debug!(destination = %self.destination, life = ?token.life, "new token");
                Ok(state.hold(token, asked_at))
            }
            Err(refusal) => match state.held.as_mut().filter(|held| held.is_good(now)) {
                Some(held) => {
                    held.refresh_at = now + AGAIN;
                    let Refusal { fault, detail } = refusal;
                    warn!(destination = %self.destination, reason = %fault, detail, "token is not refreshed; it is good still");
                    Ok(held.ticket.clone())
                }
                None => Err(refusal),
            },
        };
        drop(state);
        landing.send_replace(Some(landed.clone()));
        landed
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Token, Refusal> {
        let mut answer = self.ask_once(ask).await;
        for _ in 0..UNPROCESSED_MAX {
            if !matches!(answer, Err(PostError::NotSent(_) | PostError::NotProcessed(_))) {
                break;
            }
            answer = self.ask_once(ask).await;
        }
        match answer {
            Ok(Answer { status, body, .. }) => token::read(status, &body),
            Err(error) => {
                Err(Refusal { fault: fault(&error), detail: format!("token endpoint: {}", crate::chain(&error)) })
            }
        }
    }

    async fn ask_once(&self, ask: Ask<'_>) -> Result<Answer, PostError> {
        let request = TokenRequest::new(&self.access, ask);
        match &self.client {
            Client::Mutual(client) => client.ask(&self.url, request).await,
            Client::Offering(client) => client.ask(&self.url, request).await,
        }
    }
}

impl State {
    /// What to do at `now` for a token.
    fn step(&mut self, now: Timestamp) -> Step {
        // A request whose asker was given up is not under way any more.
        self.flight.take_if(|flight| flight.has_changed().is_err());
        match (self.held.as_ref().filter(|held| held.is_good(now)), &self.flight) {
            (Some(held), Some(_)) => return Step::Use(held.ticket.clone()),
            (Some(held), None) if now < held.refresh_at => return Step::Use(held.ticket.clone()),
            (None, Some(flight)) => return Step::Wait(flight.clone()),
            (Some(_) | None, None) => {}
        }
        let (landing, flight) = watch::channel(None);
        self.flight = Some(flight);
        Step::Fetch(landing)
    }

    fn hold(&mut self, Token { access, life, refresh }: Token, asked_at: Timestamp) -> Ticket {
        self.count += 1;
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", access.expose_secret()))
            .expect("a token is a legal header value, checked where it was read");
        authorization.set_sensitive(true);
        let ticket = Ticket { number: self.count, authorization };
        let (ends_at, ahead) = (asked_at + life, AHEAD_MAX.min(life / 10));
        let refresh_at = asked_at + life.saturating_sub(ahead);
        self.held = Some(Held { ticket: ticket.clone(), asked_at, refresh_at, ends_at });
        // One that is not replaced stays good.
        self.refresh = refresh.or(self.refresh.take());
        ticket
    }
}

impl Held {
    /// One that was asked for in the future was so before the clock was set back.
    fn is_good(&self, now: Timestamp) -> bool {
        (self.asked_at..self.ends_at).contains(&now)
    }
}

fn fault(error: &PostError) -> TokenFault {
    match error {
        PostError::Connect(_) => TokenFault::Unreachable,
        PostError::ServerNotTrusted(_) => TokenFault::NotTrusted,
        PostError::Handshake(_) | PostError::OtherHttp(_) => TokenFault::Handshake,
        PostError::NotMutual(_) => TokenFault::NotMutual,
        PostError::ClientCertificateRefused(_) => TokenFault::CertificateRefused,
        PostError::NotHttp(_) | PostError::AnswerTooLarge => TokenFault::BadAnswer,
        PostError::ClosedUnanswered(_)
        | PostError::Lost(_)
        | PostError::NotSent(_)
        | PostError::NotProcessed(_)
        | PostError::Timeout(_) => TokenFault::NoAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn at(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    fn token(life: u64) -> Token {
        Token { access: format!("token-{life}").into(), life: Duration::from_secs(life), refresh: None }
    }

    #[test]
    fn token_is_used_until_a_tenth_of_its_life_or_half_a_minute_before_its_end() {
        for (life, until) in [(10, 9), (300, 270), (3600, 3570)] {
            let mut state = State::default();
            state.hold(token(life), START);
            assert!(matches!(state.step(at(until - 1)), Step::Use(_)), "{life}");

            let Step::Fetch(landing) = state.step(at(until)) else { panic!("{life}: not refreshed") };

            assert!(matches!(state.step(at(life - 1)), Step::Use(_)), "{life}: others go on with it");
            assert!(matches!(state.step(at(life)), Step::Wait(_)), "{life}: it has ended");
            drop(landing);
            assert!(matches!(state.step(at(life)), Step::Fetch(_)), "{life}: who asked was given up");
        }
    }

    #[test]
    fn token_of_the_future_is_not_used() {
        let mut state = State::default();
        state.hold(token(300), at(100));
        assert!(matches!(state.step(at(99)), Step::Fetch(_)));
    }

    #[test]
    fn refresh_token_stays_until_it_is_replaced() {
        let mut state = State::default();
        let with = |refresh: &str| Token { refresh: Some(refresh.into()), ..token(300) };
        let kept = |state: &State| state.refresh.as_ref().map(|refresh| refresh.expose_secret().to_owned());

        state.hold(with("one"), START);
        state.hold(token(300), START);
        assert_eq!(kept(&state).as_deref(), Some("one"));
        state.hold(with("two"), START);
        assert_eq!(kept(&state).as_deref(), Some("two"));
    }
}
