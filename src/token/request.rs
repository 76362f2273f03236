//! What a token endpoint is asked.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use form_urlencoded::{Serializer, byte_serialize};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::{Access, BasicEncoding, Credentials, Grant};

/// What is asked.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    /// A token by the grant.
    Grant,
    /// One in exchange for this refresh token.
    Refresh(&'a SecretString),
}

/// A request for a token. It is made of an [`Access`] alone, so it never holds anything of a profile; it holds secrets, and
/// shows none.
pub struct TokenRequest {
    headers: HeaderMap,
    form: Bytes,
}

impl TokenRequest {
    /// A request by `access` for what is asked.
    pub fn new(access: &Access, ask: Ask<'_>) -> Self {
        let (id, secret) = (access.client_id.as_str(), access.client_secret.expose_secret());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut form = Serializer::new(String::new());
        match (ask, &access.grant) {
            (Ask::Refresh(token), _) => {
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose_secret());
            }
            (Ask::Grant, Grant::ClientCredentials) => drop(form.append_pair("grant_type", "client_credentials")),
            (Ask::Grant, Grant::Password { username, password }) => {
                form.append_pair("grant_type", "password").append_pair("username", username);
                form.append_pair("password", password.expose_secret());
            }
        }
        match access.credentials {
            Credentials::Body => drop(form.append_pair("client_id", id).append_pair("client_secret", secret)),
            Credentials::Basic(encoding) => drop(headers.insert(AUTHORIZATION, basic(id, secret, encoding))),
        }
        form.extend_pairs(access.scope.iter().map(|scope| ("scope", scope)));
        Self { headers, form: form.finish().into() }
    }

    /// Headers and body, to be POSTed.
    pub(crate) fn into_parts(self) -> (HeaderMap, Bytes) {
        (self.headers, self.form)
    }
}

fn basic(id: &str, secret: &str, encoding: BasicEncoding) -> HeaderValue {
    let encode = |text: &str| match encoding {
        BasicEncoding::Rfc6749 => byte_serialize(text.as_bytes()).collect(),
        BasicEncoding::Plain => text.to_owned(),
    };
    let encoded = BASE64_STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is a header value");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(credentials: Credentials, grant: Grant) -> Access {
        let (client_id, client_secret) = ("pöst ern".to_owned(), "s&=+:%ü /".to_owned().into());
        Access { client_id, client_secret, credentials, grant, scope: Some("a b".to_owned()) }
    }

    fn asked(access: &Access, ask: Ask<'_>) -> (Option<String>, String) {
        let (headers, form) = TokenRequest::new(access, ask).into_parts();
        let basic = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().strip_prefix("Basic ").unwrap());
        let basic = basic.map(|basic| String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap());
        (basic, String::from_utf8(form.to_vec()).unwrap())
    }

    #[test]
    fn every_way_of_asking_is_written_as_the_standard_has_it() {
        const ID: &str = "p%C3%B6st+ern";
        const SECRET: &str = "s%26%3D%2B%3A%25%C3%BC+%2F";
        let (client, word) = (Grant::ClientCredentials, "p&w".to_owned());
        let user = Grant::Password { username: "ann".to_owned(), password: word.into() };

        let by_body = access(Credentials::Body, client.clone());
        let body = format!("grant_type=client_credentials&client_id={ID}&client_secret={SECRET}&scope=a+b");
        assert_eq!(asked(&by_body, Ask::Grant), (None, body));

        let by_basic = access(Credentials::Basic(BasicEncoding::Rfc6749), client.clone());
        let body = "grant_type=client_credentials&scope=a+b".to_owned();
        assert_eq!(asked(&by_basic, Ask::Grant), (Some(format!("{ID}:{SECRET}")), body.clone()));

        let by_plain = access(Credentials::Basic(BasicEncoding::Plain), client);
        assert_eq!(asked(&by_plain, Ask::Grant), (Some("pöst ern:s&=+:%ü /".to_owned()), body));

        let by_password = access(Credentials::Basic(BasicEncoding::Rfc6749), user);
        let body = "grant_type=password&username=ann&password=p%26w&scope=a+b".to_owned();
        assert_eq!(asked(&by_password, Ask::Grant).1, body);
        let refresh = SecretString::from("r+1");
        let body = "grant_type=refresh_token&refresh_token=r%2B1&scope=a+b".to_owned();
        assert_eq!(asked(&by_password, Ask::Refresh(&refresh)).1, body);
    }
}
