//! A live screen: lines laid out for a terminal of a given size, as one text that redraws it.

/// Enters the alternate screen, without a cursor and without the terminal's own line breaks.
pub(crate) const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Leaves it: what was there before comes back.
pub(crate) const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

const HOME: &str = "\x1b[H";
const CLEAR_TO_END_OF_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// How far lines that go on are set in: that of the status's second column.
const INDENT: &str = "          ";

/// How many characters go side by side, and how many lines below each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// A text that redraws the whole screen with these lines. What does not fit below is left out,
/// and said to be.
pub(crate) fn frame(lines: &[String], size: Size) -> String {
    let mut rows: Vec<(bool, String)> = Vec::new();
    for line in lines {
        let is_bold = is_urgent(line);
        let wrapped = wrap(&printable(line), size.columns);
        rows.extend(wrapped.into_iter().map(|row| (is_bold, row)));
    }
    if rows.len() > size.rows {
        let shown = size.rows.saturating_sub(1);
        let hidden = rows.len() - shown;
        rows.truncate(shown);
        rows.push((
            false,
            format!("({hidden} lines more: make the window higher)"),
        ));
        rows.truncate(size.rows);
    }
    let drawn: Vec<String> = rows
        .into_iter()
        .map(|(is_bold, row)| {
            let (on, off) = if is_bold { (BOLD, PLAIN) } else { ("", "") };
            // Cleared first: after a row as wide as the screen it would take the last character.
            format!("{CLEAR_TO_END_OF_LINE}{on}{row}{off}")
        })
        .collect();
    // No line break after the last line: it could scroll the screen.
    format!("{HOME}{}{CLEAR_BELOW}", drawn.join("\r\n"))
}

/// Whether a line must be seen first.
fn is_urgent(line: &str) -> bool {
    ["ATTENTION", "Next", "Error"]
        .iter()
        .any(|word| line.starts_with(word))
}

/// Without characters that would steer the terminal.
fn printable(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A line in rows of at most `columns` characters, broken at spaces where that can be done.
fn wrap(line: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(INDENT.len() * 2);
    let mut rows = Vec::new();
    let mut rest: Vec<char> = line.chars().collect();
    while rest.len() > columns {
        let at = rest[..=columns]
            .iter()
            .rposition(|c| *c == ' ')
            .filter(|at| rest[..*at].iter().skip(INDENT.len()).any(|c| *c != ' '))
            .unwrap_or(columns);
        let tail: Vec<char> = rest.split_off(at);
        rows.push(rest.iter().collect());
        rest = INDENT
            .chars()
            .chain(tail.into_iter().skip_while(|c| *c == ' '))
            .collect();
    }
    rows.push(rest.iter().collect());
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(columns: usize, rows: usize) -> Size {
        Size { columns, rows }
    }

    /// The rows of a frame without what steers the terminal.
    fn rows(frame: &str) -> Vec<String> {
        let mut text = frame.to_owned();
        for code in [HOME, CLEAR_TO_END_OF_LINE, CLEAR_BELOW, BOLD, PLAIN] {
            text = text.replace(code, "");
        }
        text.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn long_lines_go_on_below_set_in() {
        let line = "Next      activate the waiting key: kes-cli activate";
        assert_eq!(
            rows(&frame(&[line.to_owned()], size(32, 9))),
            [
                "Next      activate the waiting",
                "          key: kes-cli activate"
            ]
        );
    }

    #[test]
    fn a_word_longer_than_the_screen_is_cut_and_nothing_is_lost() {
        let key = "0123456789".repeat(7);
        let shown = rows(&frame(&[format!("Active    {key}")], size(40, 9)));
        assert!(
            shown.iter().all(|row| row.chars().count() <= 40),
            "{shown:?}"
        );
        let joined: String = shown.iter().map(|row| row[10..].to_owned()).collect();
        assert_eq!(joined, key);
    }

    #[test]
    fn what_does_not_fit_below_is_counted() {
        let lines: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
        let shown = rows(&frame(&lines, size(80, 4)));
        assert_eq!(shown[..3], ["line 0", "line 1", "line 2"]);
        assert_eq!(shown[3], "(7 lines more: make the window higher)");
        assert_eq!(rows(&frame(&lines, size(80, 10))), lines);
        assert_eq!(rows(&frame(&lines, size(1, 1))).len(), 1);
        let _ = frame(&lines, size(0, 0));
    }

    #[test]
    fn urgent_lines_are_bold_and_no_line_steers_the_terminal() {
        let lines = ["ATTENTION x".to_owned(), "Peer \x1b[2J\n down".to_owned()];
        let frame = frame(&lines, size(80, 9));
        assert!(frame.contains("\x1b[K\x1b[1mATTENTION x\x1b[0m"));
        assert!(frame.contains("Peer  [2J  down"));
    }
}
