//! Costs as pages show them: a cost that is not known is `?`, never 0.

use mcpctl_api::usage::UsageTotals;

/// A cost in US dollars. `?` is what has no known price.
pub fn dollars(totals: &UsageTotals) -> String {
    let known = totals.cost;
    match totals.unpriced {
        0 => format!("{known:.4}"),
        _ if known == 0.0 => "?".to_owned(),
        _ => format!("{known:.4} + ?"),
    }
}

/// What `?` is in a table with these sums; `None` where no price is missing.
pub fn unpriced(totals: &UsageTotals) -> Option<String> {
    match totals.unpriced {
        0 => None,
        1 => Some("?: the cost of 1 request without a known price".to_owned()),
        count => Some(format!("?: the cost of {count} requests without a known price")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_cost_is_no_number() {
        let of = |cost, unpriced| UsageTotals { cost, unpriced, ..UsageTotals::default() };
        assert_eq!(
            [of(0.0, 0), of(0.0, 3), of(1.25, 0), of(1.25, 2)].map(|sum| dollars(&sum)),
            ["0.0000", "?", "1.2500", "1.2500 + ?"]
        );
        let count = |count| unpriced(&of(0.0, count));
        assert_eq!(count(0), None);
        assert!(count(1).unwrap().contains("1 request ") && count(2).unwrap().contains("2 requests "));
    }
}
