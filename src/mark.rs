//! The clock's mark on disk: a clock that was set back while nobody looked is known for it after a restart.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    clock::{Clock, Timestamp},
    metrics,
};

/// How often the present is noted: a clock that goes back further than this is caught at it.
const NOTED_EVERY: Duration = Duration::from_secs(10);
/// How often that is written: less often than a disk would mind.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// The mark of a clock, in a file of the state directory.
pub struct Mark {
    path: PathBuf,
    clock: Clock,
    /// Held by who writes.
    writing: Mutex<()>,
}

impl Mark {
    /// Has the clock know what the file in a state directory says, if there is one.
    pub fn of(state_dir: &Path, clock: Clock) -> Self {
        let path = state_dir.join("clock");
        match fs::read_to_string(&path).map(|text| Timestamp::parse(text.trim())) {
            Ok(Some(mark)) => clock.note(mark),
            Ok(None) => warn!(path = %path.display(), "the clock's mark cannot be read; it begins anew"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!(path = %path.display(), %error, "the clock's mark cannot be read; it begins anew"),
        }
        Self { path, clock, writing: Mutex::new(()) }
    }

    /// Takes the present for right from now on, over restarts too. Blocks.
    ///
    /// # Errors
    /// When that cannot be written; it holds until a restart then.
    pub fn trust_present(&self) -> io::Result<()> {
        self.clock.trust_present();
        self.write()
    }

    /// Notes the present while the clock is trusted, and says when it is not; until `stop`.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let (mut was_trusted, mut written, mut could_write) = (true, None, true);
        loop {
            let now = self.clock.now();
            let distrusted = self.clock.distrusted();
            metrics::clock_trusted(distrusted.is_none());
            match distrusted {
                None => self.clock.note(now),
                Some(mark) if was_trusted => error!(%now, %mark, "{}", why_not_trusted(mark)),
                Some(_) => {}
            }
            if distrusted.is_none() && !was_trusted {
                info!(%now, "the clock is trusted again");
            }
            was_trusted = distrusted.is_none();
            let is_due = written.is_none_or(|written: Timestamp| now.since(written) >= WRITTEN_EVERY || now < written);
            if was_trusted && (is_due || stop.is_cancelled()) {
                let mark = self.clone();
                let done = tokio::task::spawn_blocking(move || mark.write()).await;
                if let (Ok(Err(error)), true) = (&done, could_write) {
                    warn!(path = %self.path.display(), %error, "cannot keep the clock's mark: a clock that is set back would not be noticed after a restart");
                }
                could_write = matches!(done, Ok(Ok(())));
                written = Some(now);
            }
            if stop.is_cancelled() {
                return;
            }
            // The system's time: it is the clock that is being watched.
            stop.run_until_cancelled(tokio::time::sleep(NOTED_EVERY)).await;
        }
    }

    fn write(&self) -> io::Result<()> {
        // A panic elsewhere leaves at worst a half-written new file, which is written anew.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{}", self.clock.mark())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}

/// What is told of a clock that is not trusted, in a sentence.
pub(crate) fn why_not_trusted(mark: Timestamp) -> String {
    format!(
        "clock not trusted: it tells a time before {mark}, which is known to be over; no certificate of ours is judged until it is set \
         right (if it is right now, say `postern clock trust`)"
    )
}
