//! `[[destination]]` as written, read to a [`Destination`] with its secret and its certificates loaded.

use std::time::Duration;

use super::{
    authentication::authentication,
    duration::duration,
    file::{Item, Section},
    names::Names,
    secret::{Places, path},
};
use crate::{
    audience::AudienceId,
    destination::{Authentication, Destination, DestinationId, Mapping},
    profile::path::AttributePath,
    tls::{ClientTls, ClientTlsFiles, HttpsUrl, RootsSource},
};

/// Most mapped audiences, as AEP advises: each is asked for each changed profile.
const AUDIENCES_MAX: usize = 250;
/// Most mapped attributes, four times what AEP advises: each is copied into each export.
const ATTRIBUTES_MAX: usize = 200;

/// An answer that takes longer keeps a place in flight for too long.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A longer wait would look like a lost export; an endpoint that is down for hours is held, not retried.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// The exports in flight are the only bodies in memory: 1024 of them are some ten megabytes.
const IN_FLIGHT_MAX: usize = 1024;

/// Zero would never work.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Reads a destination. Audiences that it maps must be among `audience_ids`.
pub(super) fn destination(
    item: &Item<'_>,
    names: &mut Names,
    audience_ids: &Names,
    places: &Places<'_>,
) -> Option<Destination> {
    let mut section = item.section("a table [[destination]]")?;
    let id: Option<DestinationId> = section.written("name").and_then(|item| item.parse());
    if let Some(id) = &id {
        section.call(format!("destination \"{id}\""));
    }
    let unique = section.required("name").is_some_and(|item| names.add(&item));
    let endpoint = section
        .required("endpoint")
        .and_then(|item| HttpsUrl::parse(item.text("an https URL")?).map_or_else(|error| item.refuse(error), Some));
    let audiences = section.required("audiences").and_then(|item| audiences(&item, audience_ids));
    let attributes = attributes(&mut section);
    let authentication = match section.optional("authentication") {
        Some(item) => authentication(&item, places),
        None => Some(Authentication::None),
    };
    let timeout = section.or("timeout", "\"2s\"", |item| duration(&item, WAIT_MIN..=TIMEOUT_MAX));
    let retry_delays = section.or("retry_delays", "[\"15s\", \"30s\"]", |item| retry_delays(&item));
    let max_in_flight = section.or("max_in_flight", "64", |item| item.integer(1..=IN_FLIGHT_MAX));
    let tls = section.required("tls").and_then(|item| client_tls(&item, places));
    section.close();
    unique.then_some(())?;
    Some(Destination {
        mapping: Mapping { destination: id?, audiences: audiences?, attributes: attributes? },
        endpoint: endpoint?,
        authentication: authentication?,
        timeout: timeout?,
        retry_delays: retry_delays?,
        max_in_flight: max_in_flight?,
        tls: tls?,
    })
}

fn audiences(item: &Item<'_>, ids: &Names) -> Option<Vec<AudienceId>> {
    let mut mapped = Names::default();
    let audiences = item.each("a list of audience ids", AUDIENCES_MAX, |item| {
        let id: AudienceId = item.parse()?;
        if ids.may_contain(id.as_str()) {
            return mapped.add(&item).then_some(id);
        }
        match ids.nearest(id.as_str()) {
            Some(near) => item.refuse(format_args!("no audience `{id}`; did you mean `{near}`?")),
            None => item.refuse(format_args!("no audience `{id}`; add it as [[audience]]")),
        }
    })?;
    match audiences.is_empty() {
        true => item.refuse("map at least one audience: who is in none is never exported"),
        false => Some(audiences),
    }
}

fn attributes(section: &mut Section<'_>) -> Option<Vec<AttributePath>> {
    let mut mapped = Names::default();
    section.or("attributes", "[]", |item| {
        item.each("a list of attribute paths", ATTRIBUTES_MAX, |item| Some(item.parse()?).filter(|_| mapped.add(&item)))
    })
}

fn retry_delays(item: &Item<'_>) -> Option<[Duration; 2]> {
    const WHAT: &str = "exactly two durations, such as [\"15s\", \"30s\"]";
    let delays = item.each(WHAT, usize::MAX, |item| duration(&item, WAIT_MIN..=RETRY_DELAY_MAX))?;
    delays.try_into().map_or_else(|_| item.refuse(format_args!("expected {WHAT}")), Some)
}

fn client_tls(item: &Item<'_>, places: &Places<'_>) -> Option<ClientTls> {
    ClientTls::load(&tls_files(item, places)?).map_or_else(|error| item.refuse(crate::chain(&error)), Some)
}

/// Where certificate, key and roots are read.
fn tls_files(item: &Item<'_>, places: &Places<'_>) -> Option<ClientTlsFiles> {
    let mut section = item.section("a table with certificate, key and roots")?;
    let mut file = |name| section.required(name).and_then(|item| path(&item, places));
    let certificate = file("certificate");
    let key = file("key");
    let roots = section.required("roots").and_then(|item| match item.text("\"public\" or a path")? {
        "public" => Some(RootsSource::Public),
        _ => path(&item, places).map(RootsSource::File),
    });
    section.close();
    Some(ClientTlsFiles { certificate: certificate?, key: key?, roots: roots? })
}

/// Reads of a destination only its name and where its certificates are.
pub(super) fn certificate_files(item: &Item<'_>, places: &Places<'_>) -> Option<(DestinationId, ClientTlsFiles)> {
    let mut section = item.section("a table [[destination]]")?;
    let id: Option<DestinationId> = section.required("name").and_then(|item| item.parse());
    if let Some(id) = &id {
        section.call(format!("destination \"{id}\""));
    }
    let files = section.required("tls").and_then(|item| tls_files(&item, places));
    id.zip(files)
}
