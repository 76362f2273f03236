//! Alerts by which a server ends TLS, found in errors that have lost their type.

use rustls::AlertDescription;

/// Alerts that say that our certificate was not taken. The general ones are among them: as the first word after a handshake that was
/// fine for us, they can be about nothing else.
pub(super) const REFUSALS: [AlertDescription; 11] = [
    AlertDescription::CertificateRequired,
    AlertDescription::NoCertificate,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
    AlertDescription::HandshakeFailure,
];

/// The refusal that a text tells of. `h2` keeps of an I/O error its text alone.
pub(super) fn refusal_in(text: &str) -> Option<AlertDescription> {
    REFUSALS.into_iter().find(|alert| {
        let said = rustls::Error::AlertReceived(*alert).to_string();
        text.match_indices(&said).any(|(at, _)| !text[at + said.len()..].starts_with(char::is_alphanumeric))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_found_by_the_librarys_own_words() {
        for alert in REFUSALS {
            let text = format!("connection error: {}: broken pipe", rustls::Error::AlertReceived(alert));
            assert_eq!(refusal_in(&text), Some(alert));
        }
        let other = rustls::Error::AlertReceived(AlertDescription::InternalError).to_string();
        assert_eq!((refusal_in(&other), refusal_in("")), (None, None));
    }
}
