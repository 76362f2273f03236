//! Exit codes, after sysexits where they fit: programs and systemd act on them.

use std::{fmt, io, process::ExitCode};

use anyhow::anyhow;

use crate::{
    config::problem::ConfigError,
    store::{StoreError, upkeep::UpkeepError},
};

/// Why a verb did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// It failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// What is there cannot be read: a damaged store, as one try of a salvage tells the one that started it, or a certificate of
    /// which nobody can say when it ends.
    Damaged = 65,
    /// No such file or object.
    Missing = 66,
    /// The appliance does not run.
    Unavailable = 69,
    /// Not now: try later.
    TryLater = 75,
    /// Not permitted.
    NotPermitted = 77,
    /// Wrong configuration: a restart does not help.
    Configuration = 78,
}

/// An error with the exit code that belongs to it.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    pub(super) fn failed(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, error }
    }

    pub(super) fn of(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow!("{message}") }
    }

    /// An exit code that is an answer, and was said in words already.
    pub(super) fn answered(exit: Exit) -> Self {
        Self::of(exit, "")
    }

    pub(super) fn is_answer(&self) -> bool {
        self.error.to_string().is_empty()
    }

    pub(super) fn because(self, what: &'static str) -> Self {
        Self { error: self.error.context(what), ..self }
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        self.error
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Missing(_) => Exit::Missing,
            ConfigError::Unreadable(_, source) if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::NotPermitted
            }
            ConfigError::Unreadable(..) | ConfigError::Invalid(_) => Exit::Configuration,
        };
        let error = match error.problems() {
            [] => error.into(),
            // Each on a line of its own, so that an editor can jump there.
            _ => anyhow!("the configuration is refused:\n{error}"),
        };
        Self { exit, error }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::Missing(_) | StoreError::Unknown(_) => Exit::Missing,
            StoreError::InUse(_) | StoreError::Busy => Exit::TryLater,
            StoreError::Newer { .. } => Exit::Configuration,
            StoreError::Directory { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::NotPermitted
            }
            StoreError::Directory { .. }
            | StoreError::Damaged { .. }
            | StoreError::Unreadable(_)
            | StoreError::Failed
            | StoreError::Full
            | StoreError::Refused(_) => Exit::Failed,
        };
        Self { exit, error: error.into() }
    }
}

impl From<UpkeepError> for Failure {
    fn from(error: UpkeepError) -> Self {
        match error {
            UpkeepError::Store(error) => error.into(),
            UpkeepError::NoSpace { .. } | UpkeepError::Exists(_) | UpkeepError::OfTheStore(_) => {
                Self { exit: Exit::Failed, error: error.into() }
            }
        }
    }
}

/// Errors of the edges: the exit code of what caused them, if it has one.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<StoreError>() {
            Ok(store) => store.into(),
            Err(error) => Self::failed(error),
        }
    }
}
