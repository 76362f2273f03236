//! What is wrong with a configuration, or odd about it: each finding with its file, its line, its key and the way out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such file.
    #[error("no configuration file {}", .0.display())]
    Missing(PathBuf),
    /// The main file cannot be read. A drop-in that cannot is a finding among the others.
    #[error("cannot read configuration file {}", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The files say things that cannot be meant: all of them, by file and line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Finding>),
}

impl ConfigError {
    /// What is wrong inside the files, by file and line; empty when the main file cannot be read.
    pub fn problems(&self) -> &[Finding] {
        match self {
            Self::Invalid(problems) => problems,
            Self::Missing(_) | Self::Unreadable(..) => &[],
        }
    }
}

/// One thing that is wrong or odd. No field holds a secret. As JSON it also says its id, severity and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; none when it is the file as a whole.
    pub line: Option<usize>,
    /// The key, such as `destination "crm".timeout`; none when it is the file as a whole.
    pub key: Option<String>,
    /// What is wrong and what to do. A refused rule adds lines that show the place.
    pub message: String,
}

/// What kind of thing a finding is. Ids are stable: programs may act on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A drop-in cannot be read.
    Unreadable,
    /// A file is not UTF-8 text.
    NotUtf8,
    /// A file is not TOML.
    NotToml,
    /// A key that nobody knows.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A name that stands twice.
    Duplicate,
    /// More entries than are allowed.
    TooMany,
    /// A value that cannot be meant.
    Refused,
    /// The store in the state directory cannot be used by this version.
    Store,
    /// A destination's certificate can no longer be used.
    CertificateExpired,
    /// A destination's certificate cannot be used yet.
    CertificateNotYetValid,
    /// A destination's certificate will soon be of no use.
    CertificateExpiresSoon,
    /// A drop-in that says nothing.
    EmptyDropIn,
    /// An audience whose members are exported nowhere.
    UnmappedAudience,
}

impl Kind {
    /// Whether it changes by itself as time goes by.
    pub fn is_about_time(self) -> bool {
        matches!(self, Self::CertificateExpired | Self::CertificateNotYetValid | Self::CertificateExpiresSoon)
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used.
    Warning,
}

impl Kind {
    /// Its name for programs.
    pub fn id(self) -> &'static str {
        match self {
            Self::Unreadable => "file-unreadable",
            Self::NotUtf8 => "file-not-utf8",
            Self::NotToml => "file-not-toml",
            Self::UnknownKey => "key-unknown",
            Self::MissingKey => "key-missing",
            Self::Duplicate => "name-duplicate",
            Self::TooMany => "entries-too-many",
            Self::Refused => "value-refused",
            Self::Store => "store-unusable",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::CertificateExpiresSoon => "certificate-expires-soon",
            Self::EmptyDropIn => "drop-in-empty",
            Self::UnmappedAudience => "audience-unmapped",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Unreadable
            | Self::NotUtf8
            | Self::NotToml
            | Self::UnknownKey
            | Self::MissingKey
            | Self::Duplicate
            | Self::TooMany
            | Self::Refused
            | Self::Store => Severity::Error,
            Self::CertificateExpired
            | Self::CertificateNotYetValid
            | Self::CertificateExpiresSoon
            | Self::EmptyDropIn
            | Self::UnmappedAudience => Severity::Warning,
        }
    }

    /// What to do about it, as far as its kind says.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unreadable => {
                "make it a regular file that postern's group may read, or rename it to end in .disabled"
            }
            Self::NotUtf8 => "save the file as UTF-8",
            Self::NotToml => "correct the syntax at that place",
            Self::UnknownKey => "correct or remove the key; docs/configuration.md has every key",
            Self::MissingKey => "add the key",
            Self::Duplicate => "remove or rename one of the two",
            Self::TooMany => "remove some",
            Self::Refused => "correct the value as the message says",
            Self::Store => "do as the message says",
            Self::CertificateExpired | Self::CertificateExpiresSoon => {
                "get a new certificate from its issuer and put it in place"
            }
            Self::CertificateNotYetValid => "wait until then, or check this machine's clock",
            Self::EmptyDropIn => "write into it, or remove it",
            Self::UnmappedAudience => "name it in the audiences of a destination, or remove it",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind: _, file, line, key, message } = self;
        write!(f, "{}:", file.display())?;
        line.iter().try_for_each(|line| write!(f, "{line}:"))?;
        key.iter().try_for_each(|key| write!(f, " {key}:"))?;
        write!(f, " {}", message.replace('\n', "\n    "))
    }
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'f> {
            id: &'static str,
            severity: Severity,
            file: &'f Path,
            line: Option<usize>,
            key: Option<&'f str>,
            message: &'f str,
            remedy: &'static str,
        }
        let Self { kind, file, line, key, message } = self;
        let (id, severity, remedy) = (kind.id(), kind.severity(), kind.remedy());
        Written { id, severity, file, line: *line, key: key.as_deref(), message, remedy }.serialize(serializer)
    }
}

fn lines(problems: &[Finding]) -> String {
    problems.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}
