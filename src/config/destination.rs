//! `[[destination]]` as written, read to a [`Destination`] with its secret and its certificates loaded.

use std::{net::IpAddr, time::Duration};

use hyper::header::HeaderMap;

use super::{
    authentication::authentication,
    batch::batch,
    client_tls::{client_tls, tls_files},
    duration::duration,
    file::{Item, Section},
    names::Names,
    request,
    secret::Places,
};
use crate::{
    audience::AudienceId,
    destination::{Authentication, Destination, DestinationId, Mapping, Shown, UniqueId, Unreachable},
    profile::{identity::Namespace, path::AttributePath},
    tls::{ClientTlsFiles, HttpsUrl},
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

/// Highest rate: beyond what one destination is ever sent at.
const RATE_MAX: usize = 100_000;

/// Longest description, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 1024;

/// Zero would never work.
const WAIT_MIN: Duration = Duration::from_millis(1);

const UNREACHABLE: &[(&str, Unreachable)] = &[("hold", Unreachable::Hold), ("count", Unreachable::Count)];
const MEMBERSHIPS: &[(&str, Shown)] =
    &[("merge-policy", Shown::MergePolicy), ("mapped", Shown::Mapped), ("all", Shown::All)];

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
    let description = section.optional("description").map_or(Some(None), |item| description(&item).map(Some));
    let endpoint = section
        .required("endpoint")
        .and_then(|item| HttpsUrl::parse(item.text("an https URL")?).map_or_else(|error| item.refuse(error), Some));
    let query =
        section.optional("query").map_or(Some(None), |item| request::query(&item, places, endpoint.as_ref()).map(Some));
    let headers = match section.optional("headers") {
        Some(item) => request::headers(&item, places),
        None => Some(HeaderMap::new()),
    };
    let audiences = section.required("audiences").and_then(|item| audiences(&item, audience_ids));
    let attributes = attributes(&mut section);
    let memberships = section.or("memberships", "\"merge-policy\"", |item| item.choice(MEMBERSHIPS));
    let segment_names = section.or("include_segment_names", "false", |item| item.boolean());
    let segment_timestamps = section.or("include_segment_timestamps", "false", |item| item.boolean());
    let unique_id =
        section.optional("unique_id").map_or(Some(None), |item| unique_id(&item, attributes.as_deref()).map(Some));
    let authentication = match section.optional("authentication") {
        Some(item) => authentication(&item, places),
        None => Some(Authentication::None),
    };
    let timeout = section.or("timeout", "\"2s\"", |item| duration(&item, WAIT_MIN..=TIMEOUT_MAX));
    let retry_delays = section.or("retry_delays", "[\"15s\", \"30s\"]", |item| retry_delays(&item));
    let max_in_flight = section.or("max_in_flight", "64", |item| item.integer(1..=IN_FLIGHT_MAX));
    let max_rate = section.optional("max_rate").map_or(Some(None), |item| item.integer(1..=RATE_MAX).map(Some));
    let batch = section.optional("batch").map_or(Some(None), |item| batch(&item, max_in_flight.unwrap_or(1)).map(Some));
    let unreachable = section.or("unreachable", "\"hold\"", |item| item.choice(UNREACHABLE));
    let local_address = section.optional("local_address").map_or(Some(None), |item| local_address(&item).map(Some));
    let tls = section.required("tls").and_then(|item| client_tls(&item, places));
    section.close();
    unique.then_some(())?;
    Some(Destination {
        mapping: Mapping {
            memberships: memberships?,
            segment_names: segment_names?,
            segment_timestamps: segment_timestamps?,
            unique_id: unique_id?,
            ..Mapping::new(id?, audiences?, attributes?)
        },
        description: description?,
        endpoint: endpoint?,
        query: query?,
        headers: headers?,
        authentication: authentication?,
        timeout: timeout?,
        retry_delays: retry_delays?,
        max_in_flight: max_in_flight?,
        max_rate: max_rate?,
        batch: batch?,
        unreachable: unreachable?,
        local_address: local_address?,
        tls: tls?,
    })
}

fn description(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    match text.len() <= DESCRIPTION_BYTES_MAX && !text.contains(char::is_control) {
        true => Some(text.to_owned()),
        false => item.refuse(format_args!("expected at most {DESCRIPTION_BYTES_MAX} bytes without control characters")),
    }
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

/// An attribute must be among the mapped ones, or the receiver would not see what tells profiles apart.
fn unique_id(item: &Item<'_>, mapped: Option<&[AttributePath]>) -> Option<UniqueId> {
    const HOW: &str = "{ namespace = \"CRM\" } or { attribute = \"personalEmail.address\" }";
    let mut section = item.section(HOW)?;
    let namespace = section.optional("namespace");
    let attribute = section.optional("attribute");
    section.close();
    match (namespace, attribute) {
        (Some(item), None) => {
            let namespace = Namespace::parse(item.text("a namespace")?).map_or_else(|error| item.refuse(error), Some);
            namespace.map(UniqueId::Namespace)
        }
        (None, Some(item)) => {
            let path: AttributePath = item.parse()?;
            let is_mapped =
                |mapped: &[AttributePath]| mapped.iter().any(|above| path.names().starts_with(above.names()));
            match mapped.is_none_or(is_mapped) {
                true => Some(UniqueId::Attribute(path)),
                false => item.refuse(format_args!("the receiver would not see it; add `{path}` to `attributes`")),
            }
        }
        (Some(_), Some(_)) | (None, None) => item.refuse(format_args!("expected one of {HOW}")),
    }
}

fn local_address(item: &Item<'_>) -> Option<IpAddr> {
    const WHAT: &str = "an address of this machine such as \"192.0.2.7\", without a port";
    let Ok(address) = item.text(WHAT)?.parse::<IpAddr>() else {
        return item.refuse(format_args!("expected {WHAT}"));
    };
    match address.is_unspecified() {
        false => Some(address),
        true => item.refuse("names no address; leave it out to let the system choose"),
    }
}

fn retry_delays(item: &Item<'_>) -> Option<[Duration; 2]> {
    const WHAT: &str = "exactly two durations, such as [\"15s\", \"30s\"]";
    let delays = item.each(WHAT, usize::MAX, |item| duration(&item, WAIT_MIN..=RETRY_DELAY_MAX))?;
    delays.try_into().map_or_else(|_| item.refuse(format_args!("expected {WHAT}")), Some)
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
