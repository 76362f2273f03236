//! What time does to a file: one flipped bit, or a tail that is gone.

use std::{
    fmt,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use super::load::step;

/// One change of one file of a directory.
#[derive(Debug)]
pub struct Rot {
    file: String,
    at: u64,
    how: How,
}

#[derive(Debug)]
enum How {
    FlipBit(u64),
    CutHere,
}

impl Rot {
    /// A place that is not in the midst of zeros: those are mostly not used. The database is met more often than the others.
    pub fn choose(dir: &Path, random: &mut u64) -> Self {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.metadata().is_ok_and(|found| found.is_file() && found.len() > 0));
        let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names.extend(["db".to_owned(), "db".to_owned(), "db".to_owned()]);
        let file = names[(step(random) % names.len() as u64) as usize].clone();
        let bytes = fs::read(dir.join(&file)).unwrap();
        let at = loop {
            let at = (step(random) % bytes.len() as u64) as usize;
            if bytes[at.saturating_sub(16)..bytes.len().min(at + 16)].iter().any(|byte| *byte != 0) {
                break at as u64;
            }
        };
        let how = if step(random).is_multiple_of(5) { How::CutHere } else { How::FlipBit(step(random) % 8) };
        Self { file, at, how }
    }

    pub fn inflict(&self, dir: &Path) {
        let file = File::options().read(true).write(true).open(dir.join(&self.file)).unwrap();
        match self.how {
            How::CutHere => file.set_len(self.at).unwrap(),
            How::FlipBit(bit) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, self.at).unwrap();
                file.write_all_at(&[byte[0] ^ 1 << bit], self.at).unwrap();
            }
        }
    }

    /// Which file and what, without the place.
    pub fn kind(&self) -> String {
        let what = match self.how {
            How::CutHere => "cut",
            How::FlipBit(_) => "bit",
        };
        format!("{} {what}", self.file.split('.').next().unwrap_or_default())
    }
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, how } = self;
        match how {
            How::CutHere => write!(f, "{file} cut at {at}"),
            How::FlipBit(bit) => write!(f, "{file} byte {at} bit {bit}"),
        }
    }
}
