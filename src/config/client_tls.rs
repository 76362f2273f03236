//! `[destination.tls]` as written, read to a [`ClientTls`] with its files loaded.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    file::Item,
    names::Names,
    secret::{Places, path},
};
use crate::tls::{ClientTls, ClientTlsFiles, Fingerprint, MinVersion, Policy, RootsSource};

/// Most pinned keys: those of some authorities, of now and to come.
const PINS_MAX: usize = 32;

/// Reads how a destination is known and knows us.
pub(super) fn client_tls(item: &Item<'_>, places: &Places<'_>) -> Option<ClientTls> {
    let (files, policy) = files_and_policy(item, places)?;
    let loaded = ClientTls::load(&files).map(|tls| tls.with_policy(policy));
    loaded.map_or_else(|error| item.refuse(crate::chain(&error)), Some)
}

/// Where certificate, key and roots are read.
pub(super) fn tls_files(item: &Item<'_>, places: &Places<'_>) -> Option<ClientTlsFiles> {
    files_and_policy(item, places).map(|(files, _)| files)
}

fn files_and_policy(item: &Item<'_>, places: &Places<'_>) -> Option<(ClientTlsFiles, Policy)> {
    const VERSIONS: &[(&str, MinVersion)] = &[("1.3", MinVersion::Tls13), ("1.2", MinVersion::Tls12)];
    let mut section = item.section("a table with certificate, key and roots")?;
    let mut file = |name| section.required(name).and_then(|item| path(&item, places));
    let certificate = file("certificate");
    let key = file("key");
    let roots = section.required("roots").and_then(|item| match item.text("\"public\" or a path")? {
        "public" => Some(RootsSource::Public),
        _ => path(&item, places).map(RootsSource::File),
    });
    let min_version = section.or("min_tls", "\"1.3\"", |item| item.choice(VERSIONS));
    let mut written = Names::default();
    let pins = section.or("pins", "[]", |item| {
        item.each("a list of pins", PINS_MAX, |item| pin(&item).filter(|_| written.add(&item)))
    });
    section.close();
    let files = ClientTlsFiles { certificate: certificate?, key: key?, roots: roots? };
    Some((files, Policy { min_version: min_version?, pins: pins?.into(), ..Policy::default() }))
}

/// The SHA-256 of a public key, in hexadecimal digits as `postern cert inspect` shows it, or in base64 as curl takes it.
fn pin(item: &Item<'_>) -> Option<Fingerprint> {
    const WHAT: &str = "the SHA-256 of a public key: 64 hexadecimal digits, or 44 characters of base64";
    let text = item.text(WHAT)?;
    let in_base64 = || <[u8; 32]>::try_from(STANDARD.decode(text.trim_start_matches("sha256//")).ok()?).ok();
    match Fingerprint::try_from(text.to_ascii_lowercase()) {
        Ok(pin) => Some(pin),
        Err(_) => in_base64().map(Fingerprint::from).or_else(|| item.refuse(format_args!("expected {WHAT}"))),
    }
}
