//! The time at the beginning of a line, as RFC 3339 has it: in UTC, to the microsecond.

use std::cell::RefCell;

use jiff::Timestamp;

thread_local! {
    /// The last second that this thread wrote, and its text up to the point before the fraction.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Gives the parts of the text of this time, which is after 1970, to `write`.
pub(super) fn write_time<E>(now: Timestamp, mut write: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            *second = now.as_second();
            *text = Timestamp::from_second(*second).map(|second| second.to_string()).unwrap_or_default();
            // The `Z` comes after the fraction.
            text.pop();
            text.push('.');
        }
        write(text)
    })?;
    // Seven digits, of which the first is a one.
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(1_000_000 + now.subsec_microsecond());
    write(digits.get(1..).unwrap_or_default())?;
    write("Z")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn time_is_written_in_utc_to_the_microsecond() {
        for time in
            ["2026-11-27T03:21:37.123456Z", "2026-11-27T03:21:37.000001Z", "1999-12-31T23:59:59.999999Z"]
        {
            let mut written = String::new();
            write_time(time.parse().unwrap(), |part| written.write_str(part)).unwrap();
            assert_eq!(written, time);
        }
    }
}
