//! Text in columns, as Go's `text/tabwriter` sets it: a column is as wide as the widest of the cells
//! that stand in it in lines after each other; the last cell of a line is in no column.

/// Sets columns. Cells are separated by tabs.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    width_min: usize,
    padding: usize,
    /// How wide columns have been, if that is not to change.
    remembered: Option<Vec<usize>>,
}

impl Columns {
    /// As tables of objects are set.
    pub(crate) fn of_tables() -> Self {
        Self { width_min: 6, padding: 3, remembered: None }
    }

    /// The same, where columns stay as wide as they have been.
    pub(crate) fn of_watches() -> Self {
        Self { width_min: 6, padding: 3, remembered: Some(Vec::new()) }
    }

    /// As descriptions are set.
    pub(crate) fn of_descriptions() -> Self {
        Self { width_min: 0, padding: 2, remembered: None }
    }

    /// What the text looks like.
    pub(crate) fn set(&mut self, text: &str) -> String {
        let ends = text.ends_with('\n');
        let body = text.strip_suffix('\n').unwrap_or(text);
        let lines: Vec<Vec<&str>> =
            body.split('\n').map(|line| line.split('\t').collect()).collect();
        let mut out = String::new();
        self.format(&mut out, &lines, &mut Vec::new());
        if !ends || text.is_empty() {
            out.pop();
        }
        out
    }

    fn format(&mut self, out: &mut String, lines: &[Vec<&str>], widths: &mut Vec<usize>) {
        let column = widths.len();
        let has = |line: &Vec<&str>| column + 1 < line.len();
        let mut at = 0;
        while at < lines.len() {
            if !has(&lines[at]) {
                write(out, &lines[at], widths);
                at += 1;
                continue;
            }
            let block = lines[at..].iter().take_while(|line| has(line)).count();
            let block = &lines[at..at + block];
            let cells = block.iter().map(|line| line[column].chars().count() + self.padding);
            let mut width = cells.max().unwrap_or(0).max(self.width_min);
            if let Some(known) = &mut self.remembered {
                known.resize(known.len().max(column + 1), 0);
                width = width.max(known[column]);
                known[column] = width;
            }
            widths.push(width);
            self.format(out, block, widths);
            widths.pop();
            at += block.len();
        }
    }
}

fn write(out: &mut String, line: &[&str], widths: &[usize]) {
    for (at, cell) in line.iter().enumerate() {
        out.push_str(cell);
        if let Some(width) = widths.get(at) {
            let blanks = width.saturating_sub(cell.chars().count());
            out.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = "NAME\tAGE\nlonger-name\t1s\n";
        assert_eq!(Columns::of_tables().set(text), "NAME          AGE\nlonger-name   1s\n");
        assert_eq!(Columns::of_tables().set("A\tB\nC\tD\n"), "A     B\nC     D\n");
    }

    #[test]
    fn lines_without_a_cell_end_its_column() {
        let text = "Name:\tx\nEvents:\n  a\tb\n  cc\td\nLast:\t1\n";
        assert_eq!(
            Columns::of_descriptions().set(text),
            "Name:  x\nEvents:\n  a    b\n  cc   d\nLast:  1\n"
        );
    }

    #[test]
    fn watches_do_not_get_narrower() {
        let mut columns = Columns::of_watches();
        assert_eq!(columns.set("long-name\tx\n"), "long-name   x\n");
        assert_eq!(columns.set("a\tx\n"), "a           x\n");
    }
}
