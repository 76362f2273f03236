//! A ClientHello of our own, for what the library does not speak: old versions of TLS, and old cipher suites of TLS 1.2.
//! Read is only whether the server would go on. RFC 5246, 7.4.1; RFC 6101 for SSL 3.0.

use std::fmt;

use aws_lc_rs::rand;
use rustls::{AlertDescription, pki_types::ServerName};

use super::{observed::Broken, report::TlsVersion};

/// What the library does not speak.
pub(super) const OLD_VERSIONS: [TlsVersion; 3] = [TlsVersion::Tls11, TlsVersion::Tls10, TlsVersion::Ssl30];

/// Suites of TLS 1.1 and before that servers have, or had.
const SUITES_OF_OLD_VERSIONS: &[u16] = &[
    0xc014, 0xc00a, 0xc013, 0xc009, 0x0039, 0x0033, 0x0035, 0x002f, 0xc012, 0x0016, 0x000a, 0x0005, 0x0004,
    // We take part in no renegotiation (RFC 5746).
    0x00ff,
];

/// Suites of TLS 1.2 that the library does not have.
const OLD_SUITES_OF_TLS12: &[u16] = &[
    0x009f, 0x009e, 0x009d, 0x009c, 0xccaa, 0xc028, 0xc024, 0xc027, 0xc023, 0x006b, 0x0067, 0x003d, 0x003c, 0xc0ad,
    0xc0ac, 0xc09d, 0xc09c,
];

/// A ClientHello as it is sent.
pub(super) struct Hello {
    version: TlsVersion,
    bytes: Vec<u8>,
}

/// The cipher suite that a server chose. As text: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite(pub(super) u16);

impl Hello {
    /// One that offers an old version.
    pub(super) fn old(version: TlsVersion, name: &ServerName<'_>) -> Self {
        Self::new(version, SUITES_OF_OLD_VERSIONS, name)
    }

    /// One that offers TLS 1.2 with what the library does not have.
    pub(super) fn old_suites(name: &ServerName<'_>) -> Self {
        Self::new(TlsVersion::Tls12, &[OLD_SUITES_OF_TLS12, SUITES_OF_OLD_VERSIONS].concat(), name)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn version(&self) -> TlsVersion {
        self.version
    }

    fn new(version: TlsVersion, suites: &[u16], name: &ServerName<'_>) -> Self {
        let mut random = [0; 32];
        // An error leaves zeros, which will do: nothing is going to be secret here.
        let _ = rand::fill(&mut random);
        let mut body = Vec::from(number(version).to_be_bytes());
        body.extend(random);
        body.push(0); // No session.
        body.extend(with_length(&numbers(suites)));
        body.extend([1, 0]); // No compression.
        if version != TlsVersion::Ssl30 {
            body.extend(with_length(&extensions(name)));
        }
        let length = u32::try_from(body.len()).expect("a name has at most 255 bytes, the rest less than 300");
        let handshake = [&[1], &length.to_be_bytes()[1..], &body].concat();
        // The record says the oldest version that the server may know, as clients do.
        let record_version = if version == TlsVersion::Ssl30 { [3, 0] } else { [3, 1] };
        let bytes = [&[22], record_version.as_slice(), &with_length(&handshake)].concat();
        Self { version, bytes }
    }
}

/// What the first record of an answer says; None while too little of it is there.
pub(super) fn answer(bytes: &[u8], offered: TlsVersion) -> Option<Result<Suite, Broken>> {
    match bytes {
        [21, _, _, _, _, _level, description, ..] => Some(Err(Broken::Alert(AlertDescription::from(*description)))),
        [22, _, _, _, _, message, ..] if *message != 2 => {
            Some(Err(Broken::Other("the answer to our hello is none".to_owned())))
        }
        [22, _, _, _, _, 2, _, _, _, high, low, rest @ ..] => {
            if u16::from_be_bytes([*high, *low]) != number(offered) {
                return Some(Err(Broken::Other("it answers with another version".to_owned())));
            }
            let (session_bytes, rest) = rest.get(32..)?.split_first()?;
            let suite = rest.get(usize::from(*session_bytes)..)?.first_chunk()?;
            Some(Ok(Suite(u16::from_be_bytes(*suite))))
        }
        _ => None,
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04X}", self.0)
    }
}

fn number(version: TlsVersion) -> u16 {
    match version {
        TlsVersion::Ssl30 => 0x0300,
        TlsVersion::Tls10 => 0x0301,
        TlsVersion::Tls11 => 0x0302,
        // TLS 1.3 says it in an extension.
        TlsVersion::Tls12 | TlsVersion::Tls13 => 0x0303,
    }
}

fn extensions(name: &ServerName<'_>) -> Vec<u8> {
    let groups = numbers(&[0x001d, 0x0017, 0x0018, 0x0019]);
    let signatures =
        numbers(&[0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201]);
    let mut extensions = Vec::new();
    if let ServerName::DnsName(name) = name {
        let entry = [&[0], with_length(name.as_ref().as_bytes()).as_slice()].concat();
        extensions.extend(extension(0, &with_length(&entry)));
    }
    extensions.extend(extension(10, &with_length(&groups)));
    extensions.extend(extension(11, &[1, 0]));
    extensions.extend(extension(13, &with_length(&signatures)));
    extensions
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_length(body)].concat()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().copied().flat_map(u16::to_be_bytes).collect()
}

/// With two bytes of length before it.
fn with_length(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a name has at most 255 bytes, the rest less than 300");
    [&length.to_be_bytes()[..], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_a_hello_add_up() {
        let name = ServerName::try_from("dest.example").unwrap();
        for hello in OLD_VERSIONS.map(|version| Hello::old(version, &name)).iter().chain([&Hello::old_suites(&name)]) {
            let bytes = hello.bytes();
            let record = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
            let message = usize::from(u16::from_be_bytes([bytes[7], bytes[8]]));
            assert_eq!((record, message), (bytes.len() - 5, bytes.len() - 9), "{:?}", hello.version());
            assert_eq!(u16::from_be_bytes([bytes[9], bytes[10]]), number(hello.version()));
            let names_the_server = bytes.windows(12).any(|window| window == b"dest.example");
            assert_eq!(names_the_server, hello.version() != TlsVersion::Ssl30);
        }
    }

    #[test]
    fn answer_is_a_hello_an_alert_or_something_else() {
        let mut hello = vec![22, 3, 2, 0, 48, 2, 0, 0, 44, 3, 2];
        hello.extend([7; 32]);
        hello.extend([4, 1, 1, 1, 1, 0xc0, 0x14, 0]);
        for length in 0..hello.len() - 1 {
            assert_eq!(answer(&hello[..length], TlsVersion::Tls11), None, "{length} bytes");
        }
        assert_eq!(answer(&hello, TlsVersion::Tls11), Some(Ok(Suite(0xc014))));
        assert!(matches!(answer(&hello, TlsVersion::Tls10), Some(Err(Broken::Other(_)))));
        let alert = Broken::Alert(AlertDescription::ProtocolVersion);
        assert_eq!(answer(&[21, 3, 1, 0, 2, 2, 70], TlsVersion::Tls10), Some(Err(alert)));
        assert_eq!(answer(&[21, 3, 1, 0, 2, 2], TlsVersion::Tls10), None);
        assert!(matches!(answer(&[22, 3, 1, 0, 4, 11], TlsVersion::Tls10), Some(Err(Broken::Other(_)))));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_server_says_is_too_much(bytes: Vec<u8>) {
            let begun = [&[22, 3, 2, 0, 48, 2, 0, 0, 44, 3, 2][..], &bytes].concat();
            for said in [&bytes, &begun] {
                let _ = answer(said, TlsVersion::Tls11);
            }
        }
    }
}
