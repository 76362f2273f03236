//! What people read: aligned tables, figures, times; colour where the terminal wants it.

use std::{fmt, time::Duration};

use anstyle::{AnsiColor, Style};
use indicatif::{HumanDuration, HumanFloatCount};

use super::{Failure, print};
use crate::clock::{Clock, Timestamp};

/// Nothing to say.
pub(super) const NONE: &str = "-";

/// Rows whose columns line up, under a heading.
pub(super) struct Table {
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
}

/// A cell: its text, and how loud it is.
pub(super) struct Cell {
    text: String,
    style: Style,
}

impl Table {
    pub(super) fn new<const COLUMNS: usize>(heading: [&str; COLUMNS]) -> Self {
        let mut table = Self { rows: Vec::new(), widths: vec![0; COLUMNS] };
        table.row(heading.map(|title| Cell { text: title.to_owned(), style: Style::new().bold() }));
        table
    }

    pub(super) fn row<const COLUMNS: usize>(&mut self, cells: [Cell; COLUMNS]) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.text.chars().count());
        }
        self.rows.push(cells.into());
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        self.rows.iter().try_for_each(|row| {
            let mut line = String::new();
            for (index, (Cell { text, style }, width)) in row.iter().zip(&self.widths).enumerate() {
                let last = index + 1 == row.len();
                let padding = if last { 0 } else { width + 2 - text.chars().count() };
                line += &format!("{style}{text}{style:#}{:padding$}", "");
            }
            print(&line)
        })
    }
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), style: Style::new() }
    }
}

/// A cell that is good, to be watched, or bad.
pub(super) fn good(text: impl fmt::Display) -> Cell {
    Cell { text: text.to_string(), style: AnsiColor::Green.on_default() }
}

pub(super) fn watch(text: impl fmt::Display) -> Cell {
    Cell { text: text.to_string(), style: AnsiColor::Yellow.on_default() }
}

pub(super) fn bad(text: impl fmt::Display) -> Cell {
    Cell { text: text.to_string(), style: AnsiColor::Red.on_default().bold() }
}

impl Cell {
    /// The text as a terminal shows it.
    pub(super) fn paint(&self) -> String {
        let Self { text, style } = self;
        format!("{style}{text}{style:#}")
    }
}

/// A text that may be missing.
pub(super) fn or_none(text: Option<impl fmt::Display>) -> String {
    text.map_or_else(|| NONE.to_owned(), |text| text.to_string())
}

/// How long ago an instant was that the appliance has named, such as `3m`; the instant where that cannot be read.
pub(super) fn ago(instant: &str) -> String {
    Timestamp::parse(instant).map_or_else(|| instant.to_owned(), |at| long(Clock::system().now().since(at)))
}

/// A time such as `3m`.
pub(super) fn long(time: Duration) -> String {
    format!("{:#}", HumanDuration(time))
}

/// A latency such as `3.2 ms`.
pub(super) fn latency(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.1} ms", seconds * 1000.0),
        _ => format!("{seconds:.1} s"),
    }
}

/// A rate such as `1,204.5`.
pub(super) fn rate(a_second: f64) -> String {
    format!("{:.1}", HumanFloatCount(a_second))
}
