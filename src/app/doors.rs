//! The listeners: each has a task of its own, and can be replaced while the others stay open.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::join;
use crate::{
    admin::{self, Admin},
    config::Config,
    inlet::Entrance,
    listen::Listener,
};

/// All doors, and what is behind them.
pub(super) struct Doors {
    entrance: Entrance,
    admin: Admin,
    inlets: Door,
    open: Door,
    socket: Door,
    /// Doors that were replaced, as long as requests are under way in them.
    closing: JoinSet<()>,
}

/// Listeners that are bound and not served yet. None stands for one that stays as it is.
pub(super) struct Bound {
    pub(super) inlets: Option<Listener>,
    /// Health and metrics.
    pub(super) open: Option<Listener>,
    pub(super) socket: Option<Listener>,
}

/// A listener's task.
#[derive(Default)]
struct Door {
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Bound {
    /// Binds what `after` says where `before` says something else; all of it when there is nothing before.
    ///
    /// # Errors
    /// When an address cannot be bound; none is then.
    pub(super) async fn new(before: Option<&Config>, after: &Config) -> anyhow::Result<Self> {
        let changed = |differs: fn(&Config, &Config) -> bool| before.is_none_or(|before| differs(before, after));
        let mut bound = Self { inlets: None, open: None, socket: None };
        if changed(|before, after| before.server_listen != after.server_listen) {
            let address = after.server_listen;
            let listener = Listener::bind(address).await;
            bound.inlets = Some(listener.with_context(|| format!("cannot listen on {address}"))?);
        }
        if changed(|before, after| before.admin_listen != after.admin_listen) {
            let address = after.admin_listen;
            let listener = Listener::bind(address).await;
            bound.open = Some(listener.with_context(|| format!("cannot listen on {address}"))?);
        }
        if changed(|before, after| before.admin_socket != after.admin_socket) {
            let path = &after.admin_socket;
            let listener = Listener::bind_unix(path).await;
            bound.socket = Some(listener.with_context(|| {
                format!("cannot listen on the socket {}; `admin.socket` says another place", path.display())
            })?);
        }
        Ok(bound)
    }

    /// Where inlets, and health and metrics, are served then; as `before` where nothing changes.
    pub(super) fn addresses(&self, before: (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
        let address = |listener: &Option<Listener>, before| {
            listener.as_ref().and_then(|listener| listener.address().ok()).unwrap_or(before)
        };
        (address(&self.inlets, before.0), address(&self.open, before.1))
    }
}

impl Doors {
    pub(super) fn new(entrance: Entrance, admin: Admin) -> Self {
        let (inlets, open, socket, closing) = Default::default();
        Self { entrance, admin, inlets, open, socket, closing }
    }

    /// Serves what was bound, in place of what was served there before.
    pub(super) fn serve(&mut self, Bound { inlets, open, socket }: Bound) {
        let doors = [
            (inlets, &mut self.inlets, self.entrance.routes()),
            (open, &mut self.open, admin::open_routes(&self.admin)),
            (socket, &mut self.socket, admin::all_routes(&self.admin)),
        ];
        for (listener, door, routes) in doors {
            let Some(listener) = listener else { continue };
            let mut new = Door::default();
            new.task.spawn(listener.serve(routes, new.stop.clone()));
            let old = std::mem::replace(door, new);
            self.closing.spawn(old.close());
        }
    }

    /// Returns when a listener has ended that nobody closed.
    pub(super) async fn broken(&mut self) {
        let Self { inlets, open, socket, .. } = self;
        tokio::select! {
            Some(_) = inlets.task.join_next() => {}
            Some(_) = open.task.join_next() => {}
            Some(_) = socket.task.join_next() => {}
        }
    }

    /// Takes no more updates; those under way are answered.
    pub(super) async fn close_inlets(&mut self) {
        std::mem::take(&mut self.inlets).close().await;
    }

    /// Closes the rest.
    pub(super) async fn close(self) {
        let Self { entrance: _, admin: _, inlets, open, socket, mut closing } = self;
        tokio::join!(inlets.close(), open.close(), socket.close());
        join(&mut closing).await;
    }
}

impl Door {
    async fn close(mut self) {
        self.stop.cancel();
        join(&mut self.task).await;
    }
}
