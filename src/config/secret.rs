//! A secret as it is written: never itself, only where it is kept.

use std::{
    fs::File,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use secrecy::SecretString;

use super::file::Item;

/// Longest secret, in bytes: servers refuse longer header lines.
const BYTES_MAX: u64 = 8 * 1024;

/// Where references lead.
pub(super) struct Places<'a> {
    /// The folder of the main file.
    pub(super) folder: &'a Path,
    /// What `$CREDENTIALS_DIRECTORY` says: systemd puts credentials there.
    pub(super) credentials: Option<&'a Path>,
}

/// Where a secret goes, which says what it may hold.
#[derive(Clone, Copy)]
pub(super) enum Fits {
    /// As it is, into a header: visible ASCII in one line.
    Header,
    /// Encoded, into a form: any text in one line.
    Form,
}

/// Reads the secret that `{ file = "…" }` or `{ credential = "…" }` refers to.
pub(super) fn secret(item: &Item<'_>, places: &Places<'_>, fits: Fits) -> Option<SecretString> {
    const HOW: &str = "{ file = \"token\" } or { credential = \"name\" }";
    if item.as_text().is_some() {
        return item.refuse(format_args!("a secret is not written here; keep it in a file and say {HOW}"));
    }
    let mut section = item.section(HOW)?;
    let file = section.optional("file");
    let credential = section.optional("credential");
    section.close();
    match (file, credential) {
        (Some(file), None) => read(&file, &path(&file, places)?, fits),
        (None, Some(credential)) => {
            let name = credential.text("the name of a credential")?;
            let mut parts = Path::new(name).components();
            let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
                return credential.refuse("expected the name of a credential, not a path");
            };
            match places.credentials {
                Some(folder) => read(&credential, &folder.join(name), fits),
                None => {
                    credential.refuse("$CREDENTIALS_DIRECTORY is not set; start through systemd, or use { file = … }")
                }
            }
        }
        (Some(_), Some(_)) | (None, None) => item.refuse(format_args!("expected one of {HOW}")),
    }
}

/// A path, which is relative to the folder of the main file.
pub(super) fn path(item: &Item<'_>, places: &Places<'_>) -> Option<PathBuf> {
    let text = item.text("a path")?;
    if text.is_empty() || text.contains('\0') {
        return item.refuse("expected a path, found an empty or impossible one");
    }
    let path = places.folder.join(text);
    // One that is not UTF-8 cannot be written either.
    path.to_str().inspect(|path| item.show_as(path));
    Some(path)
}

fn read(item: &Item<'_>, path: &Path, fits: Fits) -> Option<SecretString> {
    let mut secret = match contents(path) {
        Ok(secret) => secret,
        Err(error) => return item.refuse(format_args!("cannot read {}: {error}", path.display())),
    };
    // Editors and `echo` end a file with a newline that is not meant.
    secret.truncate(secret.trim_end_matches(['\r', '\n']).len());
    let secret = SecretString::from(secret);
    let refusal = check(&secret, fits);
    match refusal {
        None => Some(secret),
        Some(reason) => item.refuse(format_args!("{} {reason}", path.display())),
    }
}

fn contents(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    match u64::try_from(read) {
        Ok(read) if read <= BYTES_MAX => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes"))),
    }
}

fn check(secret: &SecretString, fits: Fits) -> Option<&'static str> {
    use secrecy::ExposeSecret;
    let text = secret.expose_secret();
    let in_header = |c: char| c.is_ascii_graphic() || c == ' ';
    match fits {
        _ if text.trim().is_empty() => Some("is empty; write the secret into it"),
        Fits::Header if !text.chars().all(in_header) => {
            Some("holds characters that cannot stand in a header; only visible ASCII in one line can")
        }
        Fits::Form if text.chars().any(char::is_control) => {
            Some("holds control characters; write the secret into it in one line")
        }
        Fits::Header | Fits::Form => None,
    }
}
