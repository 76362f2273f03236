//! Our certificates, for those who are to trust them: the answer is that of AEP's certificate API, with what it lacks.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    Admin,
    destinations::asked,
    problem::{Problem, Query},
};
use crate::{
    certificate::{Certificate, Fingerprint, Names},
    clock::Timestamp,
    delivery::Certificates,
    tls::{Credentials, bundle::to_pem},
};

/// Where AEP has it.
pub(super) const PATH: &str = "/data/core/mtls/v1/certificate/public-certificate";
/// As many as AEP answers at once, and at most.
const LIMIT: usize = 25;
const LIMIT_MAX: usize = 100;

/// Which of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The page, from 1; 0 is taken for the first.
    #[serde(default)]
    page: usize,
    /// How many a page, 1 to 100; 25 if nothing is said.
    limit: Option<usize>,
}

/// A page of our certificates, by `CN` and fingerprint.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicCertificates {
    /// The certificates.
    pub results: Vec<PublicCertificate>,
    /// How many there are.
    pub total: usize,
    /// How many are on this page.
    pub count: usize,
    /// Where the other pages are.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// A certificate with which exports are sent, and the one that is to follow it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicCertificate {
    /// The certificate in use.
    #[serde(flatten)]
    pub current: Described,
    /// To which destinations exports are sent with it.
    pub destinations: Vec<String>,
    /// A newer one that is installed and not in use yet.
    pub next: Option<Described>,
}

/// What a receiver has to know of a certificate.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// Its `CN`; its first alternative name where it has none.
    pub cert_common_name: String,
    /// Itself, in PEM.
    pub public_certificate: String,
    /// Until when it is valid, with milliseconds.
    pub expiry_date: String,
    /// From when on it is valid, with milliseconds.
    pub not_before: String,
    /// Whole days until it expires; negative when it has. None while our clock is not trusted.
    pub days_left: Option<i64>,
    /// The alternative names: host names, addresses, URIs, mailboxes.
    pub subject_alternative_names: Vec<String>,
    /// Whom it names, as RFC 4514 writes it.
    pub subject: String,
    /// Who issued it.
    pub issuer: String,
    /// Its serial number in hexadecimal digits.
    pub serial_number: String,
    /// SHA-256 of it.
    pub sha256: String,
    /// SHA-256 of its public key.
    pub spki_sha256: String,
    /// Its issuers as they are sent along, in PEM, in order.
    pub chain: Vec<String>,
}

/// Where other pages are.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Links {
    /// The page after this one, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Link>,
    /// The page before this one, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev: Option<Link>,
    /// Any page.
    pub page: Link,
}

/// A place.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Link {
    /// The path, with the query.
    pub href: String,
    /// Whether something has to be filled in.
    pub templated: bool,
}

/// Our certificates.
#[utoipa::path(get, path = "/data/core/mtls/v1/certificate/public-certificate", params(Page), responses(
    (status = OK, body = PublicCertificates),
    (status = BAD_REQUEST, body = Problem),
))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Query(Page { page, limit }): Query<Page>,
) -> Result<Json<PublicCertificates>, Problem> {
    let (page, limit) = (page.max(1), limit.unwrap_or(LIMIT));
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::bad_request(format_args!("limit is 1 to {LIMIT_MAX}, not {limit}")));
    }
    let all = all(&admin).await;
    let results: Vec<_> = all.iter().skip((page - 1).saturating_mul(limit)).take(limit).cloned().collect();
    let href = |page: usize| Link { href: format!("{PATH}?page={page}&limit={limit}"), templated: false };
    let pages = all.len().div_ceil(limit);
    let links = Links {
        next: (page < pages).then(|| href(page + 1)),
        prev: (page > 1).then(|| href((page - 1).min(pages.max(1)))),
        page: Link { href: format!("{PATH}?page={{page}}&limit={{limit}}"), templated: true },
    };
    Ok(Json(PublicCertificates { total: all.len(), count: results.len(), results, links }))
}

/// Each certificate once, with the one that is to follow it, however many destinations it serves.
async fn all(admin: &Admin) -> Vec<PublicCertificate> {
    let scene = admin.scene.borrow().clone();
    let now = admin.clock.distrusted().is_none().then(|| admin.clock.now());
    let mut found: BTreeMap<(String, [Option<Fingerprint>; 2]), PublicCertificate> = BTreeMap::new();
    for (id, view) in asked(&scene).await {
        let Certificates { in_use, newer, .. } = match view {
            Ok(view) => view.certificates,
            Err(_) => Certificates::of(scene.destinations[&id].control.tls().credentials().clone()),
        };
        let newer = newer.map(|newer| newer.credentials);
        let Some(current) = Described::of(&in_use, now) else { continue };
        let pair = [Some(in_use.fingerprint()), newer.as_ref().map(Credentials::fingerprint)];
        let entry = found.entry((current.cert_common_name.clone(), pair)).or_insert_with(|| PublicCertificate {
            current,
            destinations: Vec::new(),
            next: newer.and_then(|newer| Described::of(&newer, now)),
        });
        entry.destinations.push(id.to_string());
    }
    found.into_values().collect()
}

impl Described {
    /// None of a certificate that cannot be read, which was not loaded then.
    fn of(credentials: &Credentials, now: Option<Timestamp>) -> Option<Self> {
        let (leaf, issuers) =
            credentials.chain().collect::<Vec<_>>().split_first().map(|(leaf, issuers)| (*leaf, issuers.to_vec()))?;
        let certificate = Certificate::read(leaf).ok()?;
        let (days_left, name) = (now.map(|now| certificate.days_left(now)), certificate.called().to_owned());
        let Names { dns, ip, uri, email, other: _ } = certificate.names;
        Some(Self {
            cert_common_name: name,
            public_certificate: to_pem(leaf),
            expiry_date: certificate.not_after.with_millis(),
            not_before: certificate.not_before.with_millis(),
            days_left,
            subject_alternative_names: [dns, ip, uri, email].concat(),
            subject: certificate.subject,
            issuer: certificate.issuer,
            serial_number: certificate.serial,
            sha256: certificate.sha256.to_string(),
            spki_sha256: certificate.spki_sha256.to_string(),
            chain: issuers.into_iter().map(to_pem).collect(),
        })
    }
}
