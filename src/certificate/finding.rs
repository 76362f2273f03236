//! What is found about certificates and their files: each with how bad it is, and what to do.

use std::fmt;

use serde::Serialize;

/// Something that is to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word for programs, such as `expired`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is so.
    pub what: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// It works; it will not for ever, or not everywhere.
    Warning,
    /// It does not work.
    Error,
}

impl Finding {
    /// It does not work.
    pub fn error(id: &'static str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::of(Severity::Error, id, what, remedy)
    }

    /// It works; it will not for ever, or not everywhere.
    pub fn warning(id: &'static str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self::of(Severity::Warning, id, what, remedy)
    }

    /// Good to know.
    pub fn info(id: &'static str, what: impl fmt::Display) -> Self {
        Self::of(Severity::Info, id, what, "")
    }

    fn of(severity: Severity, id: &'static str, what: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        Self { id, severity, what: what.to_string(), remedy: remedy.to_string() }
    }
}

/// What is so, and after a semicolon what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// True when nothing is in the way.
pub fn is_usable(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity < Severity::Error)
}
