//! Why a configuration is refused: everything that is wrong with it, each with its line and key.

use std::{fmt, io, path::PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("no configuration file {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("cannot read configuration file {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is longer than any configuration within the limits.
    #[error("configuration file {} has more than {bytes_max} bytes", .file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{}:{line}: not UTF-8 text; save the file as UTF-8", .file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// Where the first bad byte stands, from 1.
        line: usize,
    },
    /// The file is not TOML.
    #[error("{}:{line}:{column}: not TOML: {message}", .file.display())]
    NotToml {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What was expected there.
        message: String,
    },
    /// The file is TOML and says things that cannot be meant: all of them, by line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// What is wrong inside the file, by line; empty when it was not understood so far.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => problems,
            Self::Missing(_)
            | Self::Unreadable(..)
            | Self::TooLong { .. }
            | Self::NotUtf8 { .. }
            | Self::NotToml { .. } => &[],
        }
    }
}

/// One thing that is wrong. Neither field holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `destination "crm".timeout`.
    pub key: String,
    /// What is wrong and what to do. A refused rule adds lines that show the place.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, message } = self;
        write!(f, "{}:{line}: {key}: {}", file.display(), message.replace('\n', "\n    "))
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
