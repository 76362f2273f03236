//! Time, handed in: one instant type, and a clock that is either the system's or turned by a test.
//!
//! A clock can be wrong: a machine without a battery starts in 1970. So it keeps a mark, the latest instant that is known to
//! be over; while it tells an earlier time it is not trusted.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jiff::{SignedDuration, civil::DateTime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How far the clock may go back before it is not trusted any more: corrections are smaller, a lost battery is not.
const SET_BACK_MAX: Duration = Duration::from_secs(10 * 60);
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// An instant in whole milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant so many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, for example `2022-01-11T21:24:39Z`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(Self(time.as_millisecond())),
            Err(_) => Self::parse_last_day(text),
        }
    }

    /// jiff's instants end with room for each time zone, a day before the year 9999 does; certificates that never expire
    /// are valid until its last second.
    fn parse_last_day(text: &str) -> Option<Self> {
        let time: DateTime = text.strip_suffix('Z')?.parse().ok()?;
        i64::try_from(time.duration_since(EPOCH).as_millis()).ok().map(Self)
    }

    /// How long ago `earlier` was; zero if it lies ahead (the wall clock may have been set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// Whole days from `earlier` to here; negative if it is the other way round.
    pub fn days_after(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0).div_euclid(24 * 60 * 60 * 1000)
    }

    /// RFC 3339 in UTC with milliseconds and `Z`, as AEP's certificate API shows times.
    pub fn with_millis(self) -> String {
        let time = jiff::Timestamp::from_millisecond(self.0);
        time.map_or_else(|_| self.to_string(), |time| format!("{time:.3}"))
    }
}

/// RFC 3339 in UTC with whole seconds and `Z`, as exports carry it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0.div_euclid(1000)) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => match EPOCH.checked_add(SignedDuration::from_secs(self.0.div_euclid(1000))) {
                Ok(time) => write!(f, "{time}Z"),
                Err(_) => write!(f, "{}ms", self.0),
            },
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Tells the time and waits for it. Clones share one source and one mark.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// The latest instant that is known to be over, in milliseconds.
    mark: Arc<AtomicI64>,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self::of(Source::System)
    }

    /// A clock that stands at `start` until it is turned with [`Clock::advance`].
    pub fn manual(start: Timestamp) -> Self {
        Self::of(Source::Manual(Arc::new(watch::Sender::new(start))))
    }

    fn of(source: Source) -> Self {
        Self { source, mark: Arc::new(AtomicI64::new(built_at().0)) }
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system what time it is")]
    pub fn now(&self) -> Timestamp {
        match &self.source {
            Source::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => Timestamp::default() + since,
                Err(before) => Timestamp::default() - before.duration(),
            },
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Notes that `instant` is over, as a mark kept on disk may say.
    pub fn note(&self, instant: Timestamp) {
        self.mark.fetch_max(instant.0, Ordering::Relaxed);
    }

    /// The latest instant that is known to be over: that of the build at least.
    pub fn mark(&self) -> Timestamp {
        Timestamp(self.mark.load(Ordering::Relaxed))
    }

    /// Takes the present for right, whatever was known before: a person has looked at it.
    pub fn trust_present(&self) {
        self.mark.store(self.now().0.max(built_at().0), Ordering::Relaxed);
    }

    /// The mark, if the clock tells an earlier time. Nothing that was issued can be judged by it then.
    pub fn distrusted(&self) -> Option<Timestamp> {
        let mark = self.mark();
        (self.now() + SET_BACK_MAX < mark).then_some(mark)
    }

    /// Waits until `due`. On the system clock it may return up to a second early or late when the wall clock is set
    /// meanwhile, so callers look again at what is due.
    pub async fn sleep_until(&self, due: Timestamp) {
        match &self.source {
            // A step of the wall clock is noticed within a second, because no single wait is longer.
            Source::System => tokio::time::sleep(due.since(self.now()).min(Duration::from_secs(1))).await,
            Source::Manual(now) => {
                let mut turned = now.subscribe();
                // An error means that the clock is gone: time stands still for ever.
                if turned.wait_for(|now| *now >= due).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Sets a manual clock, back too, and wakes who waits for an instant passed by it.
    ///
    /// # Panics
    /// On the system clock, which cannot be set.
    pub fn set(&self, to: Timestamp) {
        match &self.source {
            Source::System => panic!("the system clock cannot be set"),
            Source::Manual(now) => drop(now.send_replace(to)),
        }
    }

    /// Turns a manual clock forward and wakes who waits for an instant passed by it.
    ///
    /// # Panics
    /// On the system clock, which cannot be turned.
    pub fn advance(&self, by: Duration) {
        match &self.source {
            Source::System => panic!("the system clock cannot be turned"),
            Source::Manual(now) => now.send_modify(|now| *now = *now + by),
        }
    }
}

/// When this was built at the earliest: at the last commit, where the build says so, else at the beginning of the year of its
/// release. The same sources give the same.
fn built_at() -> Timestamp {
    let seconds = option_env!("POSTERN_COMMITTED_AT").or(option_env!("SOURCE_DATE_EPOCH"));
    let seconds: i64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    Timestamp(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_prints_whole_seconds_in_utc() {
        assert_eq!(Timestamp::from_millis(1_641_936_279_999).to_string(), "2022-01-11T21:24:39Z");
        assert_eq!(Timestamp::parse("2022-01-11T21:24:39Z"), Some(Timestamp::from_millis(1_641_936_279_000)));
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn timestamp_reaches_the_last_second_of_the_year_9999() {
        let last = Timestamp::from_millis(253_402_300_799_000);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp::parse("9999-12-31T23:59:59Z"), Some(last));
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), format!("{}ms", i64::MAX));
        for text in ["", "Z", "9999-12-31", "9999-12-31T23:59:59", "10000-01-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn manual_clock_wakes_a_sleeper_when_turned() {
        let clock = Clock::manual(Timestamp::from_millis(0));
        let due = clock.now() + Duration::from_secs(15);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(due).await }
        });

        clock.advance(Duration::from_secs(15));

        sleeper.await.unwrap();
        assert_eq!(clock.now(), due);
    }

    #[test]
    fn clock_is_not_trusted_before_what_it_has_told() {
        let (start, hour) = (built_at() + Duration::from_secs(1_000_000), Duration::from_secs(3600));
        let clock = Clock::manual(start);
        clock.note(start);

        clock.set(start - SET_BACK_MAX);
        assert_eq!(clock.distrusted(), None, "a correction");

        clock.set(start - hour);
        assert_eq!(clock.distrusted(), Some(start));

        clock.trust_present();
        assert_eq!(clock.distrusted(), None);

        clock.set(Timestamp::default());
        clock.trust_present();
        assert_eq!(clock.distrusted(), Some(built_at()), "nothing runs before it was built");
    }
}
