//! Addresses in the network that say who asks (RFC 3986, section 3.2.1).

use std::borrow::Cow;

/// What is shown in the place of a name or a password; BuildKit's.
const MASK: &str = "xxxxx";
/// What ends the part of an address that names a server, in an address or in a text around it.
const ENDS: [char; 12] = ['/', '?', '#', ' ', '\t', '\r', '\n', '"', '\'', '`', '<', '>'];

/// A text whose addresses do not say any more who asks: `https://me:word@host/` becomes
/// `https://xxxxx:xxxxx@host/`. A user alone stays where that proves nothing, as in `ssh://git@host`.
#[must_use]
pub fn redacted(text: &str) -> Cow<'_, str> {
    let (mut out, mut done, mut at) = (String::new(), 0, 0);
    while let Some(found) = text[at..].find("://") {
        let begin = at + found + "://".len();
        let scheme = &text[..at + found];
        if let Some(user) = user(&text[begin..]) {
            let is_token = scheme.ends_with("http") || scheme.ends_with("https");
            let mask = match user.contains(':') {
                true => Some(format!("{MASK}:{MASK}")),
                false => is_token.then(|| MASK.to_owned()),
            };
            if let Some(mask) = mask {
                out += &text[done..begin];
                out += &mask;
                done = begin + user.len();
            }
        }
        at = begin;
    }
    match done {
        0 => Cow::Borrowed(text),
        _ => Cow::Owned(out + &text[done..]),
    }
}

/// An address without who asks, and the name and password of whoever does, if it says so.
#[must_use]
pub fn without_credentials(address: &str) -> (Cow<'_, str>, Option<(String, String)>) {
    let Some((scheme, behind)) = address.split_once("://") else { return (address.into(), None) };
    let Some(user) = user(behind) else { return (address.into(), None) };
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let bare = format!("{scheme}://{}", &behind[user.len() + 1..]);
    (bare.into(), Some((decoded(name), decoded(password))))
}

/// What stands before the server in what is behind `://`.
fn user(behind: &str) -> Option<&str> {
    let authority = behind.split(ENDS).next()?;
    authority.rsplit_once('@').map(|(user, _)| user)
}

/// A text without its percent signs (RFC 3986, section 2.1); one that stands for nothing stays.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_who_asks() {
        for (text, expected) in [
            ("https://h/x", "https://h/x"),
            ("https://me:word@h:1/x?a@b", "https://xxxxx:xxxxx@h:1/x?a@b"),
            ("ADD https://token@h/x /y", "ADD https://xxxxx@h/x /y"),
            ("http://a:b@c@h/ and https://d:@h", "http://xxxxx:xxxxx@h/ and https://xxxxx:xxxxx@h"),
            ("ssh://git@h/x git@h:x", "ssh://git@h/x git@h:x"),
            ("git+ssh://me:word@h/x", "git+ssh://xxxxx:xxxxx@h/x"),
            ("[\"https://a:ä@h\", \"/x\"]", "[\"https://xxxxx:xxxxx@h\", \"/x\"]"),
            ("http://h me@h", "http://h me@h"),
            ("://@://", "://@://"),
        ] {
            assert_eq!(redacted(text), expected, "{text}");
        }
    }

    #[test]
    fn who_asks_is_taken_out() {
        let take = |text: &str| {
            let (bare, who) = without_credentials(text);
            (bare.into_owned(), who)
        };
        let who = |name: &str, word: &str| Some((name.to_owned(), word.to_owned()));
        assert_eq!(take("https://h/x@y"), ("https://h/x@y".into(), None));
        assert_eq!(take("https://m%65:a%40%zz@h/"), ("https://h/".into(), who("me", "a@%zz")));
        assert_eq!(take("https://token@h"), ("https://h".into(), who("token", "")));
        assert_eq!(take("git@h:x"), ("git@h:x".into(), None));
    }
}
