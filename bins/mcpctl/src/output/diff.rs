//! Compares two texts line by line.

/// A line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// In the first only.
    Gone(&'a str),
    /// In the second only.
    Come(&'a str),
}

/// The shortest way from one text to the other, by the longest common subsequence of lines. Time and space grow with the
/// product of the lengths, which for documents of a few hundred lines is nothing.
pub fn lines<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // `common[i]` holds, for every `j`, how many lines `old[i..]` and `new[j..]` have in common.
    let mut common: Vec<Vec<usize>> = vec![vec![0; new.len() + 1]];
    for gone in old.iter().rev() {
        let below = common.last().map_or(&[][..], Vec::as_slice);
        let mut row = vec![0; new.len() + 1];
        for (j, come) in new.iter().enumerate().rev() {
            let best = if gone == come { at(below, j + 1) + 1 } else { at(below, j).max(at(&row, j + 1)) };
            if let Some(cell) = row.get_mut(j) {
                *cell = best;
            }
        }
        common.push(row);
    }
    common.reverse();
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    loop {
        let rest = |i: usize, j: usize| common.get(i).map_or(0, |row| at(row, j));
        match (old.get(i), new.get(j)) {
            (None, None) => return found,
            (Some(gone), Some(come)) if gone == come => {
                found.push(Line::Same(gone));
                (i, j) = (i + 1, j + 1);
            }
            (Some(gone), come) if come.is_none() || rest(i + 1, j) >= rest(i, j + 1) => {
                found.push(Line::Gone(gone));
                i += 1;
            }
            (_, come) => {
                found.extend(come.map(|come| Line::Come(come)));
                j += 1;
            }
        }
    }
}

fn at(row: &[usize], column: usize) -> usize {
    row.get(column).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(before: &str, after: &str) -> String {
        let signs = lines(before, after).into_iter().map(|line| match line {
            Line::Same(text) => format!(" {text}"),
            Line::Gone(text) => format!("-{text}"),
            Line::Come(text) => format!("+{text}"),
        });
        signs.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn removed_lines_come_before_added_ones() {
        assert_eq!(shown("a\nb\nc", "a\nx\nc"), " a,-b,+x, c");
        assert_eq!(shown("", "a\nb"), "+a,+b");
        assert_eq!(shown("a\nb", ""), "-a,-b");
        assert_eq!(shown("a\nb", "a\nb"), " a, b");
    }

    #[test]
    fn repeated_and_moved_lines_are_compared() {
        // A comparison of sets of lines would call all of these equal.
        assert_eq!(shown("a\nb", "b\na"), "-a, b,+a");
        assert_eq!(shown("x\nx", "x"), " x,-x");
        assert_eq!(shown("a\na\nb", "a\nb\nb"), " a,-a, b,+b");
    }
}
