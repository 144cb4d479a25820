//! Numbers for people, in few characters.

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `999`, `12.3k`, `4.56M`: three digits that matter.
pub fn short(number: u64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    let (whole, thousandths) = (number / unit, number % unit * 1000 / unit);
    match whole {
        0..10 => format!("{whole}.{:02}{letter}", thousandths / 10),
        10..100 => format!("{whole}.{}{letter}", thousandths / 100),
        _ => format!("{whole}{letter}"),
    }
}

/// `0`, `0.25`, `7.3`, `12.3k`: how much in a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are positive, and rounded"
)]
pub fn rate(rate: f64) -> String {
    match rate {
        ..0.005 => "0".to_owned(),
        0.005..0.995 => format!("{rate:.2}"),
        0.995..99.95 => format!("{rate:.1}"),
        _ => short(rate.round() as u64),
    }
}

/// `850ms`, `12.3s`, `4m10s`: how long it took.
pub fn took(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds}ms"),
        1_000..60_000 => format!("{}.{}s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{}m{:02}s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        let texts = [0, 999, 1_000, 12_345, 999_999, 4_560_000, 1_200_000_000].map(short);
        assert_eq!(texts, ["0", "999", "1.00k", "12.3k", "999k", "4.56M", "1.20G"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let rates = [0.0, 0.001, 0.254, 0.999, 7.26, 42.0, 99.96, 12_345.0].map(rate);
        assert_eq!(rates, ["0", "0", "0.25", "1.0", "7.3", "42.0", "100", "12.3k"]);
        let times = [0, 999, 1_000, 12_345, 59_999, 60_000, 250_000].map(took);
        assert_eq!(times, ["0ms", "999ms", "1.0s", "12.3s", "59.9s", "1m00s", "4m10s"]);
    }
}
