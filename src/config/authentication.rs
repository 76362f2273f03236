//! `authentication` of a destination as written: how it knows us beyond our certificate.

use std::time::Duration;

use secrecy::SecretString;

use super::{
    duration::duration,
    file::{Item, Section},
    secret::{Fits, Places, secret},
};
use crate::{
    destination::{Authentication, OAuth2, TokenMtls},
    tls::HttpsUrl,
    token::{Access, BasicEncoding, Credentials, Grant},
};

/// Longest id of a client, name of a user or scope, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// Exports wait for a token: a longer wait would look like a destination that is stuck.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Zero would never work.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum GrantName {
    ClientCredentials,
    Password,
}

/// Reads it: one of `bearer` and `oauth2`.
pub(super) fn authentication(item: &Item<'_>, places: &Places<'_>) -> Option<Authentication> {
    const HOW: &str = "a table such as { bearer = { file = \"token\" } }; a secret is not written here";
    let mut section = item.section(HOW)?;
    let (bearer, oauth2) = (section.optional("bearer"), section.optional("oauth2"));
    section.close();
    match (bearer, oauth2) {
        (Some(bearer), None) => secret(&bearer, places, Fits::Header).map(Authentication::Bearer),
        (None, Some(written)) => Some(Authentication::OAuth2(Box::new(self::oauth2(&written, places)?))),
        (Some(_), Some(_)) => item.refuse("expected one of `bearer` and `oauth2`; remove the other"),
        (None, None) => item.refuse(format_args!("expected one of `bearer` and `oauth2`, in {HOW}")),
    }
}

fn oauth2(item: &Item<'_>, places: &Places<'_>) -> Option<OAuth2> {
    let mut section = item.section("a table with grant, token_url, client_id and client_secret")?;
    let names = [("client_credentials", GrantName::ClientCredentials), ("password", GrantName::Password)];
    let grant = section.required("grant").and_then(|item| item.choice(&names));
    let token_url = section
        .required("token_url")
        .and_then(|item| HttpsUrl::parse(item.text("an https URL")?).map_or_else(|error| item.refuse(error), Some));
    let client_id = section.required("client_id").and_then(|item| text(&item));
    let client_secret = section.required("client_secret").and_then(|item| secret(&item, places, Fits::Form));
    let credentials = credentials(&mut section, client_id.as_deref());
    let grant = match grant {
        Some(GrantName::ClientCredentials) => Some(Grant::ClientCredentials),
        Some(GrantName::Password) => password(&mut section, places),
        // Asked for, lest they be called unknown.
        None => {
            let _ = (section.optional("username"), section.optional("password"));
            None
        }
    };
    let scope = section.optional("scope").map(|item| scope(&item));
    let mtls = [("require", TokenMtls::Require), ("offer", TokenMtls::Offer)];
    let token_mtls = section.or("token_mtls", "\"require\"", |item| item.choice(&mtls));
    let timeout = section.or("timeout", "\"10s\"", |item| duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX));
    section.close();
    let scope = match scope {
        Some(scope) => Some(scope?),
        None => None,
    };
    let access = Access {
        client_id: client_id?,
        client_secret: client_secret?,
        credentials: credentials?,
        grant: grant?,
        scope,
    };
    Some(OAuth2 { token_url: token_url?, token_mtls: token_mtls?, access, timeout: timeout? })
}

fn password(section: &mut Section<'_>, places: &Places<'_>) -> Option<Grant> {
    let username = section.required("username").and_then(|item| text(&item));
    let password: Option<SecretString> =
        section.required("password").and_then(|item| secret(&item, places, Fits::Form));
    Some(Grant::Password { username: username?, password: password? })
}

fn credentials(section: &mut Section<'_>, client_id: Option<&str>) -> Option<Credentials> {
    let is_basic = section.or("credentials", "\"body\"", |item| item.choice(&[("body", false), ("basic", true)]));
    let Some(true) = is_basic else {
        return match section.written("basic_encoding").and_then(|_| section.optional("basic_encoding")) {
            Some(item) if is_basic.is_some() => item.refuse("it is for `credentials = \"basic\"` alone; remove it"),
            _ => is_basic.map(|_| Credentials::Body),
        };
    };
    let encodings = [("rfc6749", BasicEncoding::Rfc6749), ("plain", BasicEncoding::Plain)];
    let encoding = section.or("basic_encoding", "\"rfc6749\"", |item| item.choice(&encodings))?;
    match encoding {
        BasicEncoding::Plain if client_id.is_some_and(|id| id.contains(':')) => section.refuse(
            "basic_encoding",
            "a client_id with `:` in it cannot be told from the secret; use `rfc6749`, or `credentials = \"body\"`",
        ),
        encoding => Some(Credentials::Basic(encoding)),
    }
}

fn text(item: &Item<'_>) -> Option<String> {
    let text = item.text("a string")?;
    match !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) {
        true => Some(text.to_owned()),
        false => item.refuse(format_args!("expected 1 to {TEXT_BYTES_MAX} bytes without control characters")),
    }
}

/// Words of visible ASCII without `"` and `\`, a space between (RFC 6749, 3.3).
fn scope(item: &Item<'_>) -> Option<String> {
    let text = item.text("words with a space between, such as \"profiles write\"")?;
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    match text.len() <= TEXT_BYTES_MAX && text.split(' ').all(is_word) {
        true => Some(text.to_owned()),
        false => item.refuse("expected words of visible ASCII without `\"` and `\\`, one space between"),
    }
}
