//! Distinguished encoding (X.690, section 8), as far as certificates and requests for them need it.

/// Tags.
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// The first field of a sequence that need not be there.
pub(crate) const FIRST: u8 = 0xa0;

/// Object ids of `commonName` and `organizationName` (X.520), 2.5.4.3 and 2.5.4.10.
pub(crate) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
pub(crate) const ORGANIZATION: &[u8] = &[0x55, 4, 10];

/// The content of the first element, which has a tag, and what follows it.
pub(crate) fn inner(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(bytes)?;
    (found == tag).then_some((content, rest))
}

/// The first element as it is encoded, and what follows it.
pub(crate) fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = next(bytes)?;
    Some((&bytes[..bytes.len() - rest.len()], rest))
}

/// The tag and the content of the first element, and what follows it.
pub(crate) fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, more) = rest.split_at_checked(usize::from(first & 0x7f))?;
        // A certificate is not longer than a TLS record's worth of them, let alone 4 GiB.
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit));
        rest = more;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The bytes of a bit string that is made of whole ones.
pub(crate) fn bits(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = inner(bytes, BIT_STRING)?;
    match content.split_first()? {
        (0, whole) => Some((whole, rest)),
        _ => None,
    }
}

/// The kinds of the parts of a name, and their values.
pub(crate) type Name<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The parts of a name (RFC 5280, section 4.1.2.4), and what follows it.
pub(crate) fn name(bytes: &[u8]) -> Option<(Name<'_>, &[u8])> {
    let (mut names, behind) = inner(bytes, SEQUENCE)?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let (mut set, rest) = inner(names, SET)?;
        names = rest;
        while !set.is_empty() {
            let (pair, rest) = inner(set, SEQUENCE)?;
            set = rest;
            let (kind, value) = inner(pair, OBJECT_ID)?;
            found.push((kind, next(value)?.1));
        }
    }
    Some((found, behind))
}

/// The common name and the organizations in a name; `None` if they are no text.
pub(crate) fn subject(names: &[(&[u8], &[u8])]) -> Option<(String, Vec<String>)> {
    let (mut common, mut organizations) = (String::new(), Vec::new());
    for (kind, value) in names {
        match *kind {
            COMMON_NAME => common = String::from_utf8(value.to_vec()).ok()?,
            ORGANIZATION => organizations.push(String::from_utf8(value.to_vec()).ok()?),
            _ => {}
        }
    }
    Some((common, organizations))
}

/// A time (RFC 5280, section 4.1.2.5) in seconds since the epoch, and what follows it.
pub(crate) fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    const UTC_TIME: u8 = 0x17;
    let (tag, content, rest) = next(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match (tag, text.get(..2)) {
        (UTC_TIME, Some(year)) if year < "50" => format!("20{text}"),
        (UTC_TIME, _) => format!("19{text}"),
        _ => text.to_owned(),
    };
    let [date, clock] = [text.get(..8)?, text.get(8..14)?];
    let year = &date[..4];
    let text = format!(
        "{year}-{}-{}T{}:{}:{}Z",
        date.get(4..6)?,
        date.get(6..8)?,
        clock.get(..2)?,
        clock.get(2..4)?,
        clock.get(4..6)?
    );
    let time: jiff::Timestamp = text.parse().ok()?;
    Some((time.as_second(), rest))
}

/// What stands before the subject in the signed part of a certificate: what follows the issuer.
pub(crate) fn validity_on(certificate: &[u8]) -> Option<&[u8]> {
    let (whole, _) = inner(certificate, SEQUENCE)?;
    let (mut signed, _) = inner(whole, SEQUENCE)?;
    if signed.first() == Some(&FIRST) {
        signed = next(signed)?.2;
    }
    // Serial number, algorithm and issuer stand before it.
    for _ in 0..3 {
        signed = next(signed)?.2;
    }
    Some(signed)
}
