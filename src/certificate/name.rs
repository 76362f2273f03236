//! Names as text: whom a certificate names, in the order and with the escapes of RFC 4514, fit for a terminal.

use std::{fmt::Write, net::IpAddr};

use x509_parser::{
    asn1_rs::{Any, Class, FromDer, Tag, ToDer},
    extensions::GeneralName,
    x509::{AttributeTypeAndValue, X509Name},
};

use super::{description::Malformed, oid};

/// A name as `openssl x509 -nameopt RFC2253,-esc_msb` shows it: the last part first.
pub(crate) fn distinguished(name: &X509Name<'_>) -> String {
    reversed(name.iter().map(|part| reversed(part.iter().map(attribute), "+")), ",")
}

/// A distinguished name in DER, for example of an authority that a server names, as [`distinguished`] shows it.
///
/// # Errors
/// When the bytes are anything else, or are followed by more.
pub fn distinguished_name(der: &[u8]) -> Result<String, Malformed> {
    match X509Name::from_der(der) {
        Ok(([], name)) => Ok(distinguished(&name)),
        Ok((rest, _)) => Err(Malformed(format!("{} bytes follow the name", rest.len()))),
        Err(error) => Err(Malformed(error.to_string())),
    }
}

/// The first `CN`.
pub(super) fn first_common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().next().map(|part| plain(&text(part.attr_value()).unwrap_or_default()))
}

/// An alternative name's kind as OpenSSL writes it, and the name.
pub(super) fn general(name: &GeneralName<'_>) -> (&'static str, String) {
    match name {
        GeneralName::DNSName(name) => ("DNS", plain(name)),
        GeneralName::RFC822Name(name) => ("email", plain(name)),
        GeneralName::URI(name) => ("URI", plain(name)),
        GeneralName::IPAddress(bytes) => ("IP", address(bytes)),
        GeneralName::DirectoryName(name) => ("DirName", distinguished(name)),
        GeneralName::RegisteredID(oid) => ("Registered ID", oid.to_id_string()),
        GeneralName::OtherName(oid, _) => ("othername", oid.to_id_string()),
        GeneralName::X400Address(_) => ("X400Name", "<unsupported>".to_owned()),
        GeneralName::EDIPartyName(_) => ("EdiPartyName", "<unsupported>".to_owned()),
        GeneralName::Invalid(tag, bytes) => match tag.0 {
            1 => ("email", plain(&String::from_utf8_lossy(bytes))),
            2 => ("DNS", plain(&String::from_utf8_lossy(bytes))),
            6 => ("URI", plain(&String::from_utf8_lossy(bytes))),
            _ => ("invalid", hex(bytes)),
        },
    }
}

/// Lower-case hexadecimal digits, two a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Text whose control characters, and those that turn the direction of writing, are escaped: a terminal shows it as it is.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        match is_treacherous(c) {
            true => escape(c, &mut plain),
            false => plain.push(c),
        }
        plain
    })
}

/// An address, or a network as an address and a mask.
fn address(bytes: &[u8]) -> String {
    let ip = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    };
    let (first, second) = bytes.split_at(bytes.len() / 2);
    match (ip(bytes), ip(first).zip(ip(second))) {
        // Sixteen bytes are one address; two of eight are none.
        (Some(ip), _) => ip.to_string(),
        (None, Some((ip, mask))) => format!("{ip}/{mask}"),
        (None, None) => format!("<invalid> {}", hex(bytes)),
    }
}

fn attribute(part: &AttributeTypeAndValue<'_>) -> String {
    let dump =
        || part.attr_value().to_der_vec().map(|der| format!("#{}", hex(&der).to_uppercase())).unwrap_or_default();
    match oid::attribute(part.attr_type()) {
        Some(name) => format!("{name}={}", text(part.attr_value()).map_or_else(dump, |text| escaped(&text))),
        // What is not known is not taken for text.
        None => format!("{}={}", part.attr_type().to_id_string(), dump()),
    }
}

/// What a value says, if it is one of the kinds of text that can stand in a name.
fn text(value: &Any<'_>) -> Option<String> {
    if value.class() != Class::Universal {
        return None;
    }
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String => Some(String::from_utf8_lossy(bytes).into_owned()),
        // Teletex is read as Latin 1 everywhere, whatever T.61 says.
        Tag::T61String
        | Tag::PrintableString
        | Tag::NumericString
        | Tag::Ia5String
        | Tag::VisibleString
        | Tag::UtcTime
        | Tag::GeneralizedTime => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units = bytes.chunks(2).map(|pair| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte)));
            Some(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        Tag::UniversalString => {
            let codes = bytes.chunks(4).map(|four| four.iter().fold(0, |code, byte| code << 8 | u32::from(*byte)));
            Some(codes.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        _ => None,
    }
}

/// The escapes of RFC 4514.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    text.chars().enumerate().fold(String::with_capacity(text.len()), |mut escaped, (at, c)| {
        match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', c]),
            '#' if at == 0 => escaped.extend(['\\', c]),
            ' ' if at == 0 || at == last => escaped.extend(['\\', c]),
            c if is_treacherous(c) => escape(c, &mut escaped),
            c => escaped.push(c),
        }
        escaped
    })
}

fn is_treacherous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A backslash and two hexadecimal digits for each byte of UTF-8.
fn escape(c: char, text: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(text, "\\{byte:02X}");
    }
}

/// Joined, the last first.
fn reversed(parts: impl Iterator<Item = String>, between: &str) -> String {
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn treacherous_characters_are_escaped() {
        assert_eq!(plain("a\x1b[31mb\u{202e}c\u{85}é"), "a\\1B[31mb\\E2\\80\\AEc\\C2\\85é");
        assert_eq!(escaped(" #a,b+c "), "\\ #a\\,b\\+c\\ ");
        assert_eq!(escaped("#1"), "\\#1");
    }

    #[test]
    fn addresses_and_networks() {
        for (bytes, text) in [
            (&[10, 0, 0, 7][..], "10.0.0.7"),
            (&[10, 0, 0, 0, 255, 0, 0, 0], "10.0.0.0/255.0.0.0"),
            (&[0; 16], "::"),
            (&[1, 2, 3], "<invalid> 010203"),
            (&[], "<invalid> "),
        ] {
            assert_eq!(address(bytes), text);
        }
    }
}
