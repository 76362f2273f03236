//! An appliance whose configuration changes.

use std::{fs, path::PathBuf};

use super::{appliance::Appliance, set_up::SetUp};

/// An appliance whose configuration is written anew by the test.
pub struct Changing {
    pub postern: Appliance,
}

impl Changing {
    pub async fn start(set_up: SetUp) -> Self {
        Self { postern: set_up.start().await }
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.postern.config_file()).unwrap()
    }

    pub fn edit(&self, that: &str, this: &str) {
        let text = self.text();
        assert!(text.contains(that), "{that}: {text}");
        fs::write(self.postern.config_file(), text.replace(that, this)).unwrap();
    }

    /// Takes a destination out of the configuration.
    pub fn remove(&self, name: &str) {
        let text = self.text();
        let start = text.find(&format!("\n[[destination]]\nname = \"{name}\"")).unwrap();
        let end = text[start + 1..].find("\n[[").map_or(text.len(), |end| start + 1 + end);
        fs::write(self.postern.config_file(), [&text[..start], &text[end..]].concat()).unwrap();
    }

    /// Puts a destination into a drop-in.
    pub fn add(&self, set_up: SetUp) -> PathBuf {
        let other = set_up.write();
        let text = fs::read_to_string(other.config_file()).unwrap();
        let at = text.find("\n[[destination]]").unwrap();
        let dir = self.postern.config_file().with_file_name("conf.d");
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("added.toml");
        fs::write(&file, &text[at..]).unwrap();
        file
    }
}
