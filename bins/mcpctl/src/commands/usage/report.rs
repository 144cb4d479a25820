//! Usage as a table for people, and as comma-separated values.

use std::cmp::Reverse;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use mcpctl_api::usage::{DistinctNames, UsageBy, UsageItem, UsagePage, UsageTotals};

use crate::{
    commands::time::zone_name,
    failure::Failure,
    output::{
        csv,
        number::{grouped, short},
        table::Table,
    },
};

/// Longest bar, in characters.
const MAX_BAR: u64 = 10;
/// Days or hours without usage are shown up to so many rows.
const MAX_FILLED: usize = 750;

/// What shares are shares of.
#[derive(Clone, Copy)]
enum Measure {
    Cost,
    Tokens,
    Requests,
}

impl Measure {
    /// The most telling one that there is.
    fn of(totals: &UsageTotals) -> Self {
        if totals.cost > 0.0 {
            Self::Cost
        } else if tokens(totals) > 0 {
            Self::Tokens
        } else {
            Self::Requests
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::Cost => "OF COST",
            Self::Tokens => "OF TOKENS",
            Self::Requests => "OF REQUESTS",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share is shown in whole percent")]
    fn value(self, totals: &UsageTotals) -> f64 {
        match self {
            Self::Cost => totals.cost,
            Self::Tokens => tokens(totals) as f64,
            Self::Requests => totals.requests as f64,
        }
    }
}

fn tokens(totals: &UsageTotals) -> u64 {
    totals.input_tokens.saturating_add(totals.output_tokens)
}

/// Prints a table with the totals as its last row. Where nothing is grouped by time, what cost most comes first.
pub fn table(mut page: UsagePage, zone: &TimeZone, wide: bool, plots: bool) -> Result<(), Failure> {
    if page.items.is_empty() && page.totals == UsageTotals::default() {
        note!("no usage {}", period(&page, zone));
        return Ok(());
    }
    fill(&mut page, zone);
    if !page.by.iter().any(|by| matches!(by, UsageBy::Day | UsageBy::Hour)) {
        let amount = |item: &UsageItem| {
            let UsageTotals { cost, requests, .. } = item.totals;
            (nano_dollars(cost), tokens(&item.totals), requests)
        };
        page.items.sort_by_key(|item| Reverse(amount(item)));
    }
    let measure = Measure::of(&page.totals);
    let mut header: Vec<&str> = page.by.iter().map(|by| title(*by)).collect();
    if header.is_empty() {
        header.push("");
    }
    let names = header.len();
    header.extend(["REQUESTS", "FAILED", "FALLBACKS", "INPUT", "OUTPUT"]);
    if wide {
        header.extend(["CACHED", "CACHE WRITES", "REASONING", "ESTIMATED"]);
    }
    header.push("COST");
    let numbers = header.get(names..).unwrap_or_default().to_vec();
    if plots {
        header.push(measure.header());
    }
    let mut table = Table::new(&header)
        .numbers(&numbers)
        .unbroken(&["DAY", "HOUR"])
        .subjects(&["USER"])
        .without_empty()
        .in_one_line(wide);
    if let Some(first) = header.first() {
        table = table.wrapping(first);
    }
    if plots {
        table = table.where_they_fit(&[measure.header()]);
    }
    let (all, most) = (
        measure.value(&page.totals),
        page.items.iter().map(|item| measure.value(&item.totals)).fold(0.0, f64::max),
    );
    let distinct = DistinctNames::of(&page.items);
    for item in &page.items {
        let mut row: Vec<String> = page.by.iter().map(|by| shown(*by, item, &distinct, zone)).collect();
        row.extend(amounts(&item.totals, wide));
        if plots {
            row.push(share(measure.value(&item.totals), all, most));
        }
        table.row(row);
    }
    let mut total = vec!["TOTAL".to_owned()];
    total.resize(names, String::new());
    total.extend(amounts(&page.totals, wide));
    if plots {
        total.push(String::new());
    }
    table.row(total);
    table.print()?;
    note!("usage {}", period(&page, zone));
    if page.by.contains(&UsageBy::Group) {
        note!(
            "an account's usage counts in each of its groups, so that the rows add up to more than the total"
        );
    }
    if page.totals.fallbacks > 0 {
        note!(
            "fallbacks to local models have no tokens here: `mcpctl audit --action failover-end` has what agents report"
        );
    }
    if page.totals.unpriced > 0 {
        note!("`?`: requests without a known price: {}", grouped(page.totals.unpriced));
    }
    if !page.complete {
        note!("older requests are still being added up: ask again later");
    }
    Ok(())
}

/// Prints every number of every item, under a header.
pub fn csv(page: &UsagePage, zone: &TimeZone) -> Result<(), Failure> {
    let mut header = Vec::new();
    for by in &page.by {
        match by {
            UsageBy::User => header.extend(["user", "user_id"]),
            UsageBy::Llm => header.extend(["llm", "llm_id"]),
            UsageBy::Group | UsageBy::Model | UsageBy::Day | UsageBy::Hour => header.push(by.as_str()),
        }
    }
    header.extend([
        "requests",
        "failures",
        "fallbacks",
        "input_tokens",
        "output_tokens",
        "cached_input_tokens",
        "cache_write_input_tokens",
        "reasoning_tokens",
        "estimated",
        "unpriced",
        "cost_usd",
    ]);
    data!("{}", csv::line(header))?;
    for item in &page.items {
        let mut cells = Vec::new();
        for by in &page.by {
            cells.push(plain(*by, item, zone));
            match by {
                UsageBy::User => {
                    cells.push(item.principal_id.as_ref().map(ToString::to_string).unwrap_or_default());
                }
                UsageBy::Llm => cells.push(item.llm_id.clone().unwrap_or_default()),
                UsageBy::Group | UsageBy::Model | UsageBy::Day | UsageBy::Hour => {}
            }
        }
        let totals = &item.totals;
        cells.extend(
            [
                totals.requests,
                totals.failures,
                totals.fallbacks,
                totals.input_tokens,
                totals.output_tokens,
                totals.cached_input_tokens,
                totals.cache_write_input_tokens,
                totals.reasoning_tokens,
                totals.estimated,
                totals.unpriced,
            ]
            .map(|number| number.to_string()),
        );
        cells.push(totals.cost.to_string());
        data!("{}", csv::line(cells))?;
    }
    Ok(())
}

fn period(page: &UsagePage, zone: &TimeZone) -> String {
    let [since, until] = [page.since, page.until]
        .map(|at| at.to_zoned_datetime(zone.clone()).strftime("%F %H:%M").to_string());
    format!("from {since} to {until} {}", zone_name(zone))
}

const fn title(by: UsageBy) -> &'static str {
    match by {
        UsageBy::User => "USER",
        UsageBy::Group => "GROUP",
        UsageBy::Llm => "LLM",
        UsageBy::Model => "MODEL",
        UsageBy::Day => "DAY",
        UsageBy::Hour => "HOUR",
    }
}

/// What an item is about; empty where there is nothing.
fn plain(by: UsageBy, item: &UsageItem, zone: &TimeZone) -> String {
    let from = |format: &str| {
        item.from
            .map(|from| from.to_zoned_datetime(zone.clone()).strftime(format).to_string())
            .unwrap_or_default()
    };
    match by {
        UsageBy::User => item.principal.clone().unwrap_or_default(),
        UsageBy::Group => item.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        UsageBy::Llm => item.llm.clone().unwrap_or_default(),
        UsageBy::Model => item.model.clone().unwrap_or_default(),
        UsageBy::Day => from("%F"),
        UsageBy::Hour => from("%FT%H:%M%:z"),
    }
}

/// As [`plain`], for people.
fn shown(by: UsageBy, item: &UsageItem, distinct: &DistinctNames, zone: &TimeZone) -> String {
    let text = plain(by, item, zone);
    match by {
        UsageBy::Hour => {
            let from =
                item.from.map(|from| from.to_zoned_datetime(zone.clone()).strftime("%F %H:%M").to_string());
            from.unwrap_or_default()
        }
        UsageBy::User => distinct.principal(item).unwrap_or_default(),
        UsageBy::Llm => distinct.llm(item).unwrap_or_default(),
        UsageBy::Group | UsageBy::Model if text.is_empty() => "(none)".to_owned(),
        _ => text,
    }
}

/// The numbers of a row; failures and fallbacks are left out where there are none.
fn amounts(totals: &UsageTotals, wide: bool) -> Vec<String> {
    let number = |count: u64| if wide { grouped(count) } else { short(count) };
    let some = |count: u64| if count == 0 { String::new() } else { grouped(count) };
    let mut cells = vec![
        grouped(totals.requests),
        some(totals.failures),
        some(totals.fallbacks),
        number(totals.input_tokens),
        number(totals.output_tokens),
    ];
    if wide {
        cells.extend(
            [
                totals.cached_input_tokens,
                totals.cache_write_input_tokens,
                totals.reasoning_tokens,
                totals.estimated,
            ]
            .map(some),
        );
    }
    cells.push(cost(totals));
    cells
}

/// `$12.34`, with `?` for what has no known price.
fn cost(totals: &UsageTotals) -> String {
    let cost = totals.cost;
    let text = if cost == 0.0 {
        "$0".to_owned()
    } else if cost < 0.000_05 {
        "<$0.0001".to_owned()
    } else if cost < 1.0 {
        // Small sums in full, and no more digits than they have.
        let text = format!("${cost:.4}");
        let rest = text.trim_end_matches('0');
        format!("{rest}{}", "0".repeat("$0.00".len().saturating_sub(rest.len())))
    } else {
        format!("${cost:.2}")
    };
    match (totals.unpriced, cost == 0.0) {
        (0, _) => text,
        (_, true) => "?".to_owned(),
        (_, false) => format!("{text} + ?"),
    }
}

/// For comparisons of costs.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "costs are neither negative nor that high"
)]
fn nano_dollars(cost: f64) -> u64 {
    (cost * 1e9) as u64
}

/// ` 45% #######`: the part of all, and its length beside the longest one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is between 0 and a few hundred"
)]
fn share(value: f64, all: f64, most: f64) -> String {
    let ratio = |of: f64, times: u64| {
        if of > 0.0 {
            (value / of * f64::from(u32::try_from(times).unwrap_or(u32::MAX))).round() as u64
        } else {
            0
        }
    };
    let mut bar = ratio(most, MAX_BAR);
    if bar == 0 && value > 0.0 {
        bar = 1;
    }
    let bar = "#".repeat(usize::try_from(bar.min(MAX_BAR)).unwrap_or_default());
    format!("{:>3}% {bar}", ratio(all, 100))
}

/// Adds the days or hours without usage, where nothing else groups them, so that gaps show.
fn fill(page: &mut UsagePage, zone: &TimeZone) {
    let step = match page.by.as_slice() {
        [UsageBy::Day] => 1.day(),
        [UsageBy::Hour] => 1.hour(),
        _ => return,
    };
    let Some(first) = page.items.iter().filter_map(|item| item.from).min() else { return };
    let mut items = std::mem::take(&mut page.items).into_iter().peekable();
    let (mut filled, mut next): (Vec<UsageItem>, Option<Timestamp>) = (Vec::new(), Some(first));
    while let Some(at) = next.filter(|at| *at < page.until && filled.len() < MAX_FILLED) {
        match items.next_if(|item| item.from.is_none_or(|from| from <= at)) {
            Some(item) => filled.push(item),
            None => filled.push(UsageItem { from: Some(at), ..UsageItem::default() }),
        }
        // A day has as many hours as the clocks of the zone give it.
        next = at.to_zoned_datetime(zone.clone()).checked_add(step).ok().map(|next| next.timestamp());
    }
    filled.extend(items);
    page.items = filled;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_shows_what_it_lacks() {
        let cost = |cost, unpriced| super::cost(&UsageTotals { cost, unpriced, ..UsageTotals::default() });
        assert_eq!(cost(0.0, 0), "$0");
        assert_eq!(cost(0.0, 3), "?");
        assert_eq!(cost(0.000_012, 0), "<$0.0001");
        assert_eq!(cost(0.001_23, 0), "$0.0012");
        assert_eq!(
            [0.12, 0.0312, 0.5, 0.999_99].map(|sum| cost(sum, 0)),
            ["$0.12", "$0.0312", "$0.50", "$1.00"]
        );
        assert_eq!(cost(1234.5, 2), "$1234.50 + ?");
    }

    #[test]
    fn share_has_a_bar_beside_the_longest() {
        assert_eq!(share(25.0, 100.0, 50.0), " 25% #####");
        assert_eq!(share(0.1, 100.0, 50.0), "  0% #");
        assert_eq!(share(0.0, 0.0, 0.0), "  0% ");
    }

    #[test]
    fn days_without_usage_are_shown() {
        let at = |text: &str| text.parse::<Timestamp>().ok();
        let item = |from| UsageItem { from: at(from), ..UsageItem::default() };
        let mut page = UsagePage {
            since: at("2026-11-01T00:00:00Z").unwrap(),
            until: at("2026-11-05T08:00:00Z").unwrap(),
            by: vec![UsageBy::Day],
            items: vec![item("2026-11-02T00:00:00Z"), item("2026-11-04T00:00:00Z")],
            totals: UsageTotals::default(),
            complete: true,
            next: None,
        };
        let zone = TimeZone::UTC;
        fill(&mut page, &zone);
        let days: Vec<String> = page
            .items
            .iter()
            .map(|item| shown(UsageBy::Day, item, &DistinctNames::default(), &zone))
            .collect();
        assert_eq!(days, ["2026-11-02", "2026-11-03", "2026-11-04", "2026-11-05"]);
    }

    #[test]
    fn days_without_usage_are_those_of_the_zone() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let item = |from| UsageItem { from: Some(at(from)), ..UsageItem::default() };
        // The clocks go back on the 25th.
        let mut page = UsagePage {
            since: at("2026-10-23T22:00:00Z"),
            until: at("2026-10-26T23:00:00Z"),
            by: vec![UsageBy::Day],
            items: vec![item("2026-10-23T22:00:00Z"), item("2026-10-25T23:00:00Z")],
            totals: UsageTotals::default(),
            complete: true,
            next: None,
        };
        assert_eq!(period(&page, &zone), "from 2026-10-24 00:00 to 2026-10-27 00:00 Europe/Berlin");
        fill(&mut page, &zone);
        let days: Vec<String> = page.items.iter().map(|item| plain(UsageBy::Day, item, &zone)).collect();
        assert_eq!(days, ["2026-10-24", "2026-10-25", "2026-10-26"]);
        assert_eq!(plain(UsageBy::Hour, &page.items[0], &zone), "2026-10-24T00:00+02:00");
    }
}
