//! `postern init`: a first configuration that takes updates, and what to do next.
//!
//! Nothing is ever overwritten. Where there is no `postern.toml` it is written whole; where there is one without an inlet, as a
//! package brings it, an inlet is put beside it, so that the file stays as the package knows it.

use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;

use super::{Failure, exit::Exit, print};
use crate::config::{Config, problem::ConfigError};

/// Where the service reads its configuration, with its state in `/var/lib/postern`.
const SYSTEM: &str = "/etc/postern";
const SAMPLE: &str = include_str!("../../packaging/postern.toml");
const INLET: &str = include_str!("../../packaging/web.toml");

/// The service may read, nobody else: names of destinations and attributes are nobody's business.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

#[derive(Args)]
pub(super) struct Init {
    /// The directory of the configuration; another than the default one holds the state as well
    #[arg(long, value_name = "DIR", default_value = SYSTEM)]
    dir: PathBuf,
}

pub(super) fn init(Init { dir }: &Init) -> Result<(), Failure> {
    let file = dir.join("postern.toml");
    let written = match Config::load(&file) {
        Err(ConfigError::Missing(_)) => Some((file.clone(), whole(dir))),
        Err(error) => return Err(error.into()),
        Ok(config) if config.inlets.is_empty() => Some((dir.join("conf.d/web.toml"), INLET.to_owned())),
        Ok(_) => None,
    };
    [dir.clone(), dir.join("conf.d"), dir.join("tls")].iter().try_for_each(|dir| make(dir))?;
    match &written {
        None => print(&format_args!("{} has an inlet already: nothing is written", file.display()))?,
        Some((path, text)) => {
            create(path, text)?;
            print(&format_args!("{} is written", path.display()))?;
        }
    }
    print(&Next { dir, file: &file, config: &Config::load(&file)? })
}

/// A whole file with an inlet. State goes where the service keeps its own, or into the directory itself.
fn whole(dir: &Path) -> String {
    let sample = match dir == Path::new(SYSTEM) {
        true => SAMPLE.to_owned(),
        false => SAMPLE.replace("#state_dir = \"/var/lib/postern\"", "state_dir = \"state\""),
    };
    format!("{sample}\n{INLET}")
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().mode(DIRECTORY_MODE).create(dir);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| share(dir)).with_context(|| format!("cannot make {}", dir.display())),
    }
}

fn create(path: &Path, text: &str) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    match written.and_then(|()| share(path)) {
        Ok(()) => Ok(()),
        Err(error) => {
            let exit = match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::NotPermitted,
                _ => Exit::Failed,
            };
            Err(Failure::of(exit, format_args!("cannot write {}: {error}", path.display())))
        }
    }
}

/// Gives it to the group of the directory it is in, which is the service's in `/etc/postern`. Elsewhere it may not be
/// ours to give to.
fn share(path: &Path) -> io::Result<()> {
    let group = fs::metadata(path.parent().unwrap_or(path))?.gid();
    match chown(path, None, Some(group)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        shared => shared,
    }
}

/// What a person does next.
struct Next<'a> {
    dir: &'a Path,
    file: &'a Path,
    config: &'a Config,
}

impl fmt::Display for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, file, config } = self;
        let (dir, file, address) = (dir.display(), file.display(), config.server_listen);
        let inlet = config.inlets.first().map_or("web", |inlet| inlet.name.as_str());
        let (option, start) = match *self.dir == *SYSTEM {
            true => (String::new(), "systemctl restart postern".to_owned()),
            false => (format!(" --config {file}"), format!("postern run --config {file}")),
        };
        write!(
            f,
            "\nnext:
  check it     postern check{option}
  start it     {start}
  post to it   curl -H 'content-type: application/json' http://{address}/collection/{inlet} \\
                 -d '{{\"identityMap\": {{\"CRM\": [{{\"id\": \"4711\"}}]}}, \"plan\": \"gold\"}}'
  send from it postern cert request --common-name NAME --out {dir}/tls
                 makes a key and what an authority is asked with; postern cert issue makes certificates for a staging
               postern destination add NAME{option}
                 adds where to; postern.toml(5) explains audiences and destinations"
        )
    }
}
