//! Finds the members of a JSON object in one fast pass, many bytes of a string at a time. It accepts a part of what serde_json
//! accepts, and nothing else: a body that is not well formed gets its error elsewhere.

mod block;

use std::ops::Range;

/// A text, and how far it is read.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, rest: text.as_bytes() }
    }

    /// The name of each member of the object that the text is, and the place of its value; `None` for any other text, and where a
    /// name has an escape.
    pub(crate) fn members(mut self) -> Option<Vec<(&'a str, Range<usize>)>> {
        let mut members = Vec::new();
        self.blanks();
        self.expect(b'{')?;
        self.blanks();
        if self.next_is(b'}') {
            self.expect(b'}')?;
        } else {
            loop {
                members.push(self.member()?);
                self.blanks();
                match self.byte()? {
                    b',' => self.blanks(),
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        self.blanks();
        self.rest.is_empty().then_some(members)
    }

    fn member(&mut self) -> Option<(&'a str, Range<usize>)> {
        self.expect(b'"')?;
        let from = self.at();
        self.string()?;
        let name = self.text.get(from..self.at().checked_sub(1)?)?;
        if name.contains('\\') {
            return None;
        }
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        let start = self.at();
        self.value()?;
        Some((name, start..self.at()))
    }

    /// Skips a value. Without recursion, so that no depth overflows the stack.
    fn value(&mut self) -> Option<()> {
        // The ends of the arrays and objects around it, the innermost last.
        let mut ends = Vec::new();
        loop {
            match self.byte()? {
                b'"' => self.string()?,
                b'{' => {
                    self.blanks();
                    if !self.next_is(b'}') {
                        ends.push(b'}');
                        self.name()?;
                        continue;
                    }
                    self.expect(b'}')?;
                }
                b'[' => {
                    self.blanks();
                    if !self.next_is(b']') {
                        ends.push(b']');
                        continue;
                    }
                    self.expect(b']')?;
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                b'-' => {
                    let first = self.byte()?;
                    self.number(first)?;
                }
                first => self.number(first)?,
            }
            loop {
                let Some(end) = ends.last().copied() else { return Some(()) };
                self.blanks();
                match self.byte()? {
                    b',' => {
                        self.blanks();
                        if end == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == end => ends.truncate(ends.len().saturating_sub(1)),
                    _ => return None,
                }
            }
        }
    }

    /// Skips the name of a nested member, and what is before its value.
    fn name(&mut self) -> Option<()> {
        self.expect(b'"')?;
        self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Some(())
    }

    /// Skips a string behind its opening quote. Half a surrogate pair passes, as it does where serde_json skips a string.
    fn string(&mut self) -> Option<()> {
        let mut rest = self.rest;
        loop {
            while let Some((block, after)) = rest.split_first_chunk() {
                if let Some(first) = block::first_special(*block) {
                    rest = rest.get(first..)?;
                    break;
                }
                rest = after;
            }
            // Escapes often follow one another.
            while let [b'\\', escaped, after @ ..] = rest {
                rest = match escaped {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => after,
                    b'u' => {
                        let (digits, after) = after.split_first_chunk::<4>()?;
                        digits.iter().all(u8::is_ascii_hexdigit).then_some(after)?
                    }
                    _ => return None,
                };
            }
            match rest {
                [b'"', after @ ..] => {
                    self.rest = after;
                    return Some(());
                }
                [b'\0'..b' ' | b'\\', ..] | [] => return None,
                [_, after @ ..] => rest = after,
            }
        }
    }

    /// Skips a number behind its sign and its first digit, which is `first`.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits().unwrap_or_default(),
            _ => return None,
        }
        if self.next_is(b'.') {
            self.expect(b'.')?;
            self.digits()?;
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            self.byte()?;
            if self.next_is(b'+') || self.next_is(b'-') {
                self.byte()?;
            }
            self.digits()?;
        }
        Some(())
    }

    /// Skips digits; `None` where there is none.
    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = self.rest.get(count..)?;
        (count > 0).then_some(())
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(rest)?;
        Some(())
    }

    fn blanks(&mut self) {
        while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn next_is(&self, byte: u8) -> bool {
        self.rest.first() == Some(&byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.byte()? == byte).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// How many bytes are read.
    fn at(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }
}
