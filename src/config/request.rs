//! What a person adds to each request: headers and a query, either as AEP writes them or as a table.
//!
//! Their values may be keys to the receiver's door, so they are treated as secrets: no finding repeats one, and what is
//! shown has [`HIDDEN`] in their place, which is refused when it is read.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::{
    file::Item,
    secret::{Fits, Places, secret},
};
use crate::{destination::Query, tls::HttpsUrl};

/// Most headers: more than receivers commonly read beside those that a request has anyway.
const HEADERS_MAX: usize = 32;
/// Longest value, in bytes: servers refuse longer header lines.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Most parameters in a table.
const PARAMETERS_MAX: usize = 100;
/// Longest query that is added, in bytes, once it is encoded: servers refuse longer request lines.
const QUERY_BYTES_MAX: usize = 4 * 1024;

/// Stands for a value that is not shown.
const HIDDEN: &str = "…";
const USE_A_TABLE: &str = "a header whose value holds a comma is written in a table: headers = { X-Name = \"a,b\" }";
const FILL_IN: &str = "the value was hidden when this was shown; write it in the place of `…`";

/// Reads the headers that each request gets.
pub(super) fn headers(item: &Item<'_>, places: &Places<'_>) -> Option<HeaderMap> {
    let pairs = match item.as_text() {
        Some(text) => listed(item, text)?,
        None => {
            let what = "\"name:value,name:value\" or a table such as { X-Api-Key = { file = \"key\" } }";
            item.entries(what, HEADERS_MAX, |name, item| {
                let name = header_name(&item, name);
                name.zip(value(&item, places).and_then(|value| header_value(&item, value.expose_secret())))
            })?
        }
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        if headers.contains_key(&name) {
            return item.refuse(format_args!("header `{name}` stands twice; keep one"));
        }
        headers.insert(name, value);
    }
    Some(headers)
}

/// `name:value,name:value`, as AEP writes it, which knows no way to write a comma.
fn listed(item: &Item<'_>, text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let parts: Vec<Option<(&str, &str)>> = text.split(',').map(|part| part.split_once(':')).collect();
    let shown: Vec<String> = parts
        .iter()
        .map(|part| part.map_or(HIDDEN.to_owned(), |(name, _)| format!("{}:{HIDDEN}", name.trim())))
        .collect();
    item.show_as(&shown.join(","));
    if parts.len() > HEADERS_MAX {
        return item.refuse(format_args!("has {} headers, at most {HEADERS_MAX} are allowed", parts.len()));
    }
    let read = |(index, part): (usize, &Option<(&str, &str)>)| match part {
        // It may be the rest of a value, so it is not repeated.
        None => item.refuse(format_args!("part {} has no `:`; {USE_A_TABLE}", index + 1)),
        Some((name, value)) => header_name(item, name.trim()).zip(header_value(item, value.trim())),
    };
    let pairs: Vec<_> = parts.iter().enumerate().map(read).collect();
    pairs.into_iter().collect()
}

fn header_name(item: &Item<'_>, name: &str) -> Option<HeaderName> {
    let Ok(read) = HeaderName::try_from(name) else {
        // A piece of a value may be taken for a name, so it is not repeated.
        return item.refuse("a header's name has letters, digits and a few signs such as `-`, and no spaces");
    };
    match reserved(&read) {
        None => Some(read),
        Some(reason) => item.refuse(format_args!("header `{name}` cannot be set: {reason}")),
    }
}

/// Why a header is not for a person to set.
fn reserved(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("it follows from `endpoint`"),
        "content-length" | "transfer-encoding" | "content-encoding" => {
            Some("it says how the body is framed, which Postern does")
        }
        "connection" | "keep-alive" | "te" | "trailer" | "upgrade" => {
            Some("it is about the connection, which Postern keeps")
        }
        "expect" => Some("an export is sent whole, without asking first"),
        "authorization" => Some("use `authentication`, which keeps its secret in a file"),
        "idempotency-key" => Some("it carries the export's id"),
        name if name.starts_with("proxy-") => Some("it is for proxies, and none is used"),
        _ => None,
    }
}

/// A value that is written here, or a reference to where it is kept.
fn value(item: &Item<'_>, places: &Places<'_>) -> Option<SecretString> {
    let Some(text) = item.as_text() else { return secret(item, places, Fits::Header) };
    item.show_as(HIDDEN);
    match text {
        HIDDEN => item.refuse(FILL_IN),
        _ => Some(text.to_owned().into()),
    }
}

fn header_value(item: &Item<'_>, text: &str) -> Option<HeaderValue> {
    match HeaderValue::try_from(text) {
        _ if text == HIDDEN => item.refuse(FILL_IN),
        _ if text.len() > VALUE_BYTES_MAX => {
            item.refuse(format_args!("a header has {} bytes, at most {VALUE_BYTES_MAX} are allowed", text.len()))
        }
        Ok(mut value) if text.is_ascii() => {
            value.set_sensitive(true);
            Some(value)
        }
        _ => item.refuse("a header's value is visible ASCII in one line"),
    }
}

/// Reads the query that is added to the endpoint's own.
pub(super) fn query(item: &Item<'_>, places: &Places<'_>, endpoint: Option<&HttpsUrl>) -> Option<Query> {
    let text = match item.as_text() {
        Some(text) => written_out(item, text)?,
        None => {
            let what = "\"a=1&b=2\" or a table such as { a = \"1\" }";
            let pairs = item.entries(what, PARAMETERS_MAX, |name, item| Some((name, value(&item, places)?)))?;
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name, value.expose_secret())).collect();
            let form = serde_urlencoded::to_string(pairs).expect("pairs of texts have a form");
            // In a form only a space becomes a plus, and not every receiver reads it as one.
            form.replace('+', "%20")
        }
    };
    if text.is_empty() {
        return item.refuse("is empty; leave it out");
    }
    if text.len() > QUERY_BYTES_MAX {
        return item.refuse(format_args!("has {} bytes, at most {QUERY_BYTES_MAX} are allowed", text.len()));
    }
    if endpoint.is_some_and(|endpoint| endpoint.with_query(&text).is_err()) {
        return item.refuse("the endpoint with this query is no URL");
    }
    Some(Query::new(text))
}

/// `a=1&b=2`, as AEP writes it, encoded as far as a person has to.
fn written_out(item: &Item<'_>, text: &str) -> Option<String> {
    let shown: Vec<String> = text
        .split('&')
        .map(|part| part.split_once('=').map_or(HIDDEN.to_owned(), |(name, _)| format!("{name}={HIDDEN}")))
        .collect();
    item.show_as(&shown.join("&"));
    let is_hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    match text {
        _ if text.starts_with(['?', '&']) => item.refuse("begins with its first parameter, such as \"a=1&b=2\""),
        _ if text.contains(char::is_control) => item.refuse("holds a control character"),
        _ if text.match_indices('%').any(|(at, _)| !is_hex(at + 1) || !is_hex(at + 2)) => {
            item.refuse("has a `%` without two hexadecimal digits behind it; a percent sign itself is written `%25`")
        }
        _ if text.contains(HIDDEN) => item.refuse(FILL_IN),
        _ => Some(text.to_owned()),
    }
}
