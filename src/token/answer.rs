//! What a token endpoint's answer says.

use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

use super::TokenFault;

/// How long a token is used whose endpoint does not say how long it is good. A 401 ends it sooner.
const LIFE_UNSAID: Duration = Duration::from_secs(60 * 60);

/// A token that is said to live longer is a mistake: of the unit, most likely.
const LIFE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Longest token, in bytes: servers refuse longer header lines.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The errors of RFC 6749, 5.2. Nothing else of an answer is shown: it may repeat what was sent.
const ERRORS: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
];

/// A token that was given.
#[derive(Clone, Debug)]
pub struct Token {
    /// What goes along with requests: visible ASCII without spaces.
    pub access: SecretString,
    /// How long it is good from the moment it was asked for.
    pub life: Duration,
    /// What the next one may be had for.
    pub refresh: Option<SecretString>,
}

/// Why no token was given, in one word and in a sentence that holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The word.
    pub fault: TokenFault,
    /// The sentence.
    pub detail: String,
}

/// Reads an answer of this status.
///
/// # Errors
/// When it is no 2xx, or holds no bearer token that can stand in a header.
pub fn read(status: u16, body: &[u8]) -> Result<Token, Refusal> {
    let json: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
    if !(200..=299).contains(&status) {
        let error = json.as_ref().and_then(|json| json.get("error")?.as_str());
        let error = error.and_then(|error| ERRORS.into_iter().find(|known| *known == error));
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        let detail = format!("the token endpoint answered {status}{error}");
        return Err(Refusal { fault: TokenFault::Refused(status), detail });
    }
    let json = json.ok_or_else(|| bad("is no JSON object"))?;
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let access = text("access_token").ok_or_else(|| bad("has no access_token"))?;
    let in_header = access.len() <= TOKEN_BYTES_MAX && access.bytes().all(|byte| byte.is_ascii_graphic());
    if access.is_empty() || !in_header {
        return Err(bad("has an access_token that cannot stand in a header"));
    }
    // Some leave the type out, and mean this one.
    if json.get("token_type").is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")))
    {
        return Err(bad("has a token_type other than Bearer"));
    }
    let life = match json.get("expires_in") {
        None | Some(Value::Null) => LIFE_UNSAID,
        Some(said) => {
            life(said).ok_or_else(|| bad("has an expires_in that is no number of seconds up to ten years"))?
        }
    };
    let refresh = text("refresh_token").filter(|refresh| !refresh.is_empty() && refresh.len() <= TOKEN_BYTES_MAX);
    Ok(Token { access: access.into(), life, refresh: refresh.map(SecretString::from) })
}

/// Seconds, which some write as text.
fn life(said: &Value) -> Option<Duration> {
    let seconds = said.as_f64().or_else(|| said.as_str()?.trim().parse().ok())?;
    let life = Duration::try_from_secs_f64(seconds).ok()?;
    (!life.is_zero() && life <= LIFE_MAX).then_some(life)
}

fn bad(what: &str) -> Refusal {
    Refusal { fault: TokenFault::BadAnswer, detail: format!("what the token endpoint answered {what}") }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn token_is_read_with_its_life() {
        for (members, seconds) in [
            (r#""expires_in": 300, "token_type": "bearer""#, 300),
            (r#""expires_in": "300", "token_type": "BEARER""#, 300),
            (r#""expires_in": 300.0"#, 300),
            (r#""expires_in": null, "token_type": "Bearer""#, 3600),
            (r#""more": {"a": [1]}"#, 3600),
        ] {
            let token = read(200, format!(r#"{{"access_token": "a.b-c", {members}}}"#).as_bytes()).unwrap();
            assert_eq!(
                (token.access.expose_secret(), token.life),
                ("a.b-c", Duration::from_secs(seconds)),
                "{members}"
            );
            assert!(token.refresh.is_none());
        }
        let token = read(201, br#"{"access_token": "a", "refresh_token": "r r"}"#).unwrap();
        assert_eq!(token.refresh.unwrap().expose_secret(), "r r");
    }

    #[test]
    fn answer_without_a_token_says_what_is_wrong() {
        let long = format!(r#"{{"access_token": "{}"}}"#, "x".repeat(TOKEN_BYTES_MAX + 1));
        for (body, said) in [
            ("", "no JSON object"),
            ("<html>", "no JSON object"),
            (r#"["a"]"#, "no JSON object"),
            ("{}", "no access_token"),
            (r#"{"access_token": 7}"#, "no access_token"),
            (r#"{"access_token": ""}"#, "cannot stand in a header"),
            (r#"{"access_token": "a b"}"#, "cannot stand in a header"),
            (r#"{"access_token": "a\nb"}"#, "cannot stand in a header"),
            (long.as_str(), "cannot stand in a header"),
            (r#"{"access_token": "a", "token_type": "mac"}"#, "other than Bearer"),
            (r#"{"access_token": "a", "token_type": null}"#, "other than Bearer"),
            (r#"{"access_token": "a", "expires_in": 0}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": -1}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": 1e300}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": 1700000000000}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": "soon"}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": "NaN"}"#, "expires_in"),
            (r#"{"access_token": "a", "expires_in": []}"#, "expires_in"),
        ] {
            let refusal = read(200, body.as_bytes()).unwrap_err();
            assert!(refusal.fault == TokenFault::BadAnswer && refusal.detail.contains(said), "{body}: {refusal:?}");
        }
    }

    #[test]
    fn refusal_says_its_known_word_and_nothing_else_of_the_answer() {
        let refused = |status, body: &str| read(status, body.as_bytes()).unwrap_err();
        let known = refused(401, r#"{"error": "invalid_client", "error_description": "s3cret is wrong"}"#);
        assert_eq!(known.fault, TokenFault::Refused(401));
        assert_eq!(known.detail, "the token endpoint answered 401: invalid_client");
        for body in [r#"{"error": "s3cret"}"#, "s3cret", r#"{"access_token": "s3cret"}"#] {
            assert_eq!(refused(503, body).detail, "the token endpoint answered 503");
        }
        assert_eq!(refused(302, "").fault, TokenFault::Refused(302));
    }
}
