//! Whether to colour.

/// Whether output may be coloured: only on a terminal, unless `NO_COLOR` is set to anything but
/// nothing (<https://no-color.org>) or the terminal is `dumb`.
pub(crate) fn colour(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> bool {
    is_terminal && no_color.unwrap_or_default().is_empty() && !matches!(term, None | Some("dumb"))
}

#[cfg(test)]
mod tests {
    use super::colour;

    #[test]
    fn only_on_a_terminal_that_wants_it() {
        for (is_terminal, no_color, term, expected) in [
            (true, None, Some("xterm"), true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), Some("xterm"), false),
            (true, None, Some("dumb"), false),
            (true, None, None, false),
            (false, None, Some("xterm"), false),
        ] {
            assert_eq!(colour(is_terminal, no_color, term), expected, "{no_color:?} {term:?}");
        }
    }
}
