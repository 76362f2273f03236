//! The address of a destination: an `https` URL, checked once and true for good.

use std::fmt;

use hyper::Uri;
use reqwest::Url;

/// An `https` URL with a host, without user information and without a fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpsUrl(Url);

/// Why a text is not such a URL. It never repeats the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHttps {
    /// The scheme is another one.
    #[error("the URL's scheme is `{0}`: only https is used, and plain HTTP never is")]
    Scheme(String),
    /// It does not start with a scheme and `://`.
    #[error("the URL does not start with `https://`, and plain HTTP is never used")]
    NoScheme,
    /// White space, a control character or a backslash, which a lenient reader would silently change.
    #[error("the URL has white space, a control character or a backslash in it")]
    Character,
    /// The rest does not read as a URL with a host.
    #[error("the URL cannot be read: {0}")]
    Unreadable(String),
    /// `user:password@`.
    #[error("the URL has a user name or password in it: authenticate with a certificate, a token or a header")]
    UserInformation,
    /// `#…`, which is never sent.
    #[error("the URL has a fragment (`#`), which would never be sent")]
    Fragment,
}

impl HttpsUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// When it is anything but `https`, has no host, or carries what an endpoint's address must not.
    pub fn parse(text: &str) -> Result<Self, NotHttps> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(NotHttps::Character);
        }
        let (scheme, _) = text.split_once("://").ok_or(NotHttps::NoScheme)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(NotHttps::Scheme(scheme.to_owned()));
        }
        let url = Url::parse(text).map_err(|error| NotHttps::Unreadable(error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NotHttps::UserInformation);
        }
        if url.fragment().is_some() {
            return Err(NotHttps::Fragment);
        }
        // The HTTP client reads it once more, by HTTP's own and narrower rules.
        Uri::try_from(url.as_str()).map_err(|error| NotHttps::Unreadable(error.to_string()))?;
        Ok(Self(url))
    }

    /// The host's name or address: what the server's certificate must name.
    pub fn host(&self) -> &str {
        self.0.host_str().expect("an https URL has a host, or it does not parse")
    }

    /// The port, 443 where none is written.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().expect("https has a port of its own")
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The same with more in its query, which is encoded where it must be.
    ///
    /// # Errors
    /// When the whole is too long.
    pub fn with_query(&self, more: &str) -> Result<Self, NotHttps> {
        let mut url = self.0.clone();
        let query = match url.query() {
            None | Some("") => more.to_owned(),
            Some(own) => format!("{own}&{more}"),
        };
        url.set_query(Some(&query));
        Uri::try_from(url.as_str()).map_err(|error| NotHttps::Unreadable(error.to_string()))?;
        Ok(Self(url))
    }

    /// As the HTTP client takes it.
    pub(super) fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpsUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_url_is_read() {
        for (text, shown, parts) in [
            ("https://dest.example/in?a=1&b=2", "https://dest.example/in?a=1&b=2", ("dest.example", 443, "/in")),
            ("HTTPS://Dest.Example:8443", "https://dest.example:8443/", ("dest.example", 8443, "/")),
            ("https://10.0.0.7/x", "https://10.0.0.7/x", ("10.0.0.7", 443, "/x")),
            ("https://[::1]:9/", "https://[::1]:9/", ("[::1]", 9, "/")),
        ] {
            let url = HttpsUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), (url.host(), url.port(), url.path())), (shown, parts));
        }
    }

    #[test]
    fn query_is_added_to_the_own_one_and_encoded_where_needed() {
        for (own, more, whole) in [
            ("https://d.example/in", "a=1&b=2", "https://d.example/in?a=1&b=2"),
            ("https://d.example/in?", "a=1", "https://d.example/in?a=1"),
            ("https://d.example/in?a=1", "a=1&a=2", "https://d.example/in?a=1&a=1&a=2"),
            ("https://d.example?x=%20", "a=b c&d=%C3%A9&é=#", "https://d.example/?x=%20&a=b%20c&d=%C3%A9&%C3%A9=%23"),
        ] {
            assert_eq!(HttpsUrl::parse(own).unwrap().with_query(more).unwrap().to_string(), whole);
        }
        assert!(HttpsUrl::parse("https://d.example").unwrap().with_query(&"a".repeat(70_000)).is_err());
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wrong() {
        let refused = |text: &str| HttpsUrl::parse(text).unwrap_err();

        assert_eq!(refused("http://dest.example/"), NotHttps::Scheme("http".into()));
        assert_eq!(refused("httpsx://dest.example/"), NotHttps::Scheme("httpsx".into()));
        assert_eq!(refused("dest.example/in"), NotHttps::NoScheme);
        assert_eq!(refused("https:dest.example"), NotHttps::NoScheme);
        assert_eq!(refused(" https://dest.example"), NotHttps::Character);
        assert_eq!(refused("https://dest.example\\@evil.example"), NotHttps::Character);
        assert!(matches!(refused("https://"), NotHttps::Unreadable(_)));
        assert!(matches!(refused("https://dest.example:99999/"), NotHttps::Unreadable(_)));
        assert_eq!(refused("https://dest.example/#top"), NotHttps::Fragment);
        assert_eq!(refused("https://dest.example@evil.example/"), NotHttps::UserInformation);
    }

    #[test]
    fn refusal_names_the_rule_and_never_the_password() {
        assert!(HttpsUrl::parse("http://dest.example/").unwrap_err().to_string().contains("plain HTTP never"));
        assert!(!HttpsUrl::parse("https://me:s3cret@dest.example").unwrap_err().to_string().contains("s3cret"));
    }
}
