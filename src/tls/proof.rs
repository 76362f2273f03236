//! The proof: a connection is handed to HTTP only when the server asked for our certificate in its handshake.

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::Connection;
use rustls::{SignatureScheme, client::ResolvesClientCert, sign::CertifiedKey};
use tower::{BoxError, Layer, Service};

use super::{HttpVersion, origin::Origin, unanswered::Unanswered};

tokio::task_local! {
    /// What the server of the dial in progress has asked. Set anew for each dial, and by nobody but our resolver.
    static ASKED: Cell<Asked>;
}

/// Why a connection was dropped although the server's certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMutual {
    /// It would take profile data from anybody.
    #[error("server did not request a client certificate")]
    NotRequested,
    /// It asked, but takes no signature that our key can make.
    #[error("server accepts no kind of signature that our client key can make")]
    NoCommonSignature,
}

/// What a server must do beyond naming itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// Ask for our certificate. Nothing else may carry profile data.
    AsksForOurs,
    /// Nothing; one that asks is given it.
    MayAskForOurs,
}

/// Gives our certificate to a server that asks, and notes that it asked.
pub(super) struct ProvingResolver(pub(super) Arc<CertifiedKey>);

/// Wraps the connector in the proof.
#[derive(Clone, Debug)]
pub(super) struct ProofLayer {
    /// What servers must do.
    pub(super) demand: Demand,
    /// What is spoken to them.
    pub(super) http: HttpVersion,
    /// Told of each connection that passes, as is the next.
    pub(super) unanswered: Unanswered,
    pub(super) origin: Origin,
}

/// A connector whose connections are proven.
#[derive(Clone, Debug)]
pub(super) struct Proving<S> {
    connector: S,
    layer: ProofLayer,
}

impl ResolvesClientCert for ProvingResolver {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Which authorities the server hints at does not matter: we have this one certificate, and the server judges it.
        let usable = self.0.key.choose_scheme(schemes).is_some();
        let asked = if usable { Asked::Answerably } else { Asked::Unanswerably };
        // An error means that this handshake is no dial of ours. Nothing is noted then, so nothing is proven.
        let _ = ASKED.try_with(|noted| noted.set(asked));
        usable.then(|| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Shows nothing: it holds our key.
impl fmt::Debug for ProvingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvingResolver").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for ProofLayer {
    type Service = Proving<S>;

    fn layer(&self, connector: S) -> Proving<S> {
        Proving { connector, layer: self.clone() }
    }
}

impl<S, R> Service<R> for Proving<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: Connection,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let dial = self.connector.call(target);
        let ProofLayer { demand, http, unanswered, origin } = self.layer.clone();
        // The scope goes with the future, so the note is this dial's own whichever task drives it.
        Box::pin(ASKED.scope(Cell::new(Asked::Not), async move {
            let connection = dial.await?;
            match (demand, ASKED.with(Cell::get)) {
                (Demand::AsksForOurs, Asked::Answerably) | (Demand::MayAskForOurs, _) => {}
                (Demand::AsksForOurs, Asked::Not) => return Err(NotMutual::NotRequested.into()),
                (Demand::AsksForOurs, Asked::Unanswerably) => return Err(NotMutual::NoCommonSignature.into()),
            }
            let connected = connection.connected();
            http.agreed(&connected)?;
            unanswered.insert(&connected);
            origin.note(&connected);
            Ok(connection)
        }))
    }
}

/// What a server asked in a handshake.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Not,
    Unanswerably,
    Answerably,
}
