//! What `--chmod` makes of a mode: chmod(1).

use build::Chmod;

/// The mode of a file of this mode afterwards.
pub(crate) fn changed_mode(chmod: &Chmod, mode: u32) -> u32 {
    match chmod {
        Chmod::Octal(bits) => *bits,
        Chmod::Symbolic(text) => text.split(',').fold(mode, clause),
    }
}

/// `[ugoa…][+-=][perms…]…`
fn clause(mode: u32, text: &str) -> u32 {
    let who_end = text.find(['+', '-', '=']).unwrap_or(text.len());
    let (who, mut rest) = text.split_at(who_end);
    let everybody = who.is_empty() || who.contains('a');
    let classes = [('u', 6), ('g', 3), ('o', 0)];
    let chosen: Vec<u32> =
        classes.iter().filter(|(c, _)| everybody || who.contains(*c)).map(|(_, s)| *s).collect();
    let mut mode = mode;
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |end| end + 1);
        let bits = bits(mode, &rest[1..end], &chosen);
        let all = chosen.iter().fold(0, |all, shift| all | 0o7 << shift);
        mode = match operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !all | bits,
        };
        rest = &rest[end..];
    }
    mode
}

/// The bits that some permissions are for some classes.
fn bits(mode: u32, permissions: &str, chosen: &[u32]) -> u32 {
    const DIRECTORY: u32 = 0o040_000;
    const KIND: u32 = 0o170_000;
    let is_directory = mode & KIND == DIRECTORY;
    let mut bits = 0;
    for permission in permissions.chars() {
        let own = match permission {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            'X' if is_directory || mode & 0o111 != 0 => 1,
            'u' => mode >> 6 & 7,
            'g' => mode >> 3 & 7,
            'o' => mode & 7,
            _ => 0,
        };
        bits = chosen.iter().fold(bits, |bits, shift| bits | own << shift);
        if permission == 's' {
            bits |= if chosen.contains(&6) { 0o4000 } else { 0 };
            bits |= if chosen.contains(&3) { 0o2000 } else { 0 };
        }
        if permission == 't' {
            bits |= 0o1000;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_with_chmod() {
        let check = |text: &str, mode: u32, expected: u32| {
            let changed = changed_mode(&Chmod::Symbolic(text.into()), mode) & 0o7777;
            assert_eq!(changed, expected, "{text}: {changed:o}");
        };
        check("u+x", 0o644, 0o744);
        check("+x", 0o644, 0o755);
        check("go=", 0o755, 0o700);
        check("u=rwX,go=rX", 0o100_644, 0o644);
        check("u=rwX,go=rX", 0o040_700, 0o755);
        check("g=u", 0o740, 0o770);
        check("a-w+x", 0o666, 0o555);
        check("u+s,+t", 0o755, 0o5755);
        assert_eq!(changed_mode(&Chmod::Octal(0o600), 0o777), 0o600);
    }
}
