//! Waits: each has a limit, and says what it waited for when that is over.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The longest single wait; what a busy machine with a slow disk needs is far below.
const LIMIT: Duration = Duration::from_secs(8);
/// How often a condition is looked at that cannot wake us.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Waits for a future.
pub(super) async fn for_end<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(value) => Ok(value),
        Err(_) => bail!("waited {LIMIT:?} in vain for {what}"),
    }
}

/// Waits until `look` finds something.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("waited {LIMIT:?} in vain for {what}")
}
