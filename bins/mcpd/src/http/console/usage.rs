//! Usage and cost: by day as a plot and as a table, and by Llm, user, group or model. Those who may not view the usage of others see their
//! own.

use std::{collections::HashMap, sync::Arc};

use askama::Template;
use axum::{extract::State, response::Response};
use jiff::{
    SignedDuration, Timestamp, ToSpan as _,
    civil::{Date, Time},
    tz::TimeZone,
};
use mcpctl_api::{
    error::ErrorBody,
    usage::{DistinctNames, UsageBy, UsageItem, UsagePage as Sums, UsageTotals},
};
use serde::Deserialize;

use super::{
    super::{
        error::HttpError,
        query::Query,
        usage::{self, PageQuery},
    },
    cost,
    fields::{Moment, address, given},
    frame::{Frame, Section},
    links, page,
    plot::{self, Bar},
    text,
    visit::Visit,
};
use crate::{app::App, caller::Caller, clock, usage::MAX_PARTS};

/// Rows of the table by parts; the others are one row.
const SHOWN_PARTS: usize = 50;
/// Days of the plot and its table: a leap year.
const MAX_DAYS: usize = 366;
/// What is shown by default: 30 days, of which the first and the last are not whole.
const DEFAULT_SPAN: SignedDuration = SignedDuration::from_hours(29 * 24);
/// The page.
const PATH: &str = "/console/usage";

/// The fields of the page.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageFields {
    by: Part,
    show: Measure,
    #[serde(deserialize_with = "given")]
    subject: Option<String>,
    #[serde(deserialize_with = "given")]
    llm: Option<String>,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    until: Option<Moment>,
}

/// What the table is by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    #[default]
    Llm,
    User,
    Group,
    Model,
}

impl Part {
    const ALL: [Self; 4] = [Self::Llm, Self::User, Self::Group, Self::Model];

    const fn by(self) -> UsageBy {
        match self {
            Self::Llm => UsageBy::Llm,
            Self::User => UsageBy::User,
            Self::Group => UsageBy::Group,
            Self::Model => UsageBy::Model,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Llm => "Llm",
            Self::User => "Account",
            Self::Group => "Group",
            Self::Model => "Model",
        }
    }
}

/// What the bars show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Measure {
    #[default]
    Requests,
    Tokens,
    Cost,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Requests, Self::Tokens, Self::Cost];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }

    fn of(self, totals: &UsageTotals) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a length of a bar")]
        let float = |count: u64| count as f64;
        match self {
            Self::Requests => float(totals.requests),
            Self::Tokens => float(totals.input_tokens.saturating_add(totals.output_tokens)),
            Self::Cost => totals.cost,
        }
    }

    fn label(self, value: f64) -> String {
        let (value, unit) = match value {
            value if value >= 1e9 => (value / 1e9, "G"),
            value if value >= 1e6 => (value / 1e6, "M"),
            value if value >= 1e4 => (value / 1e3, "k"),
            value => (value, ""),
        };
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        match self {
            Self::Cost => format!("${text}{unit}"),
            _ => format!("{text}{unit}"),
        }
    }
}

#[derive(Template)]
#[template(path = "usage.html")]
struct UsagePage {
    frame: Frame,
    fields: UsageFields,
    error: Option<ErrorBody>,
    shown: Shown,
}

/// What the fields lead to.
#[derive(Default)]
struct Shown {
    since: Timestamp,
    until: Timestamp,
    totals: UsageTotals,
    complete: bool,
    plot: Option<String>,
    days: Vec<Day>,
    parts: Vec<PartRow>,
    others: Option<(usize, UsageTotals)>,
}

struct Day {
    date: Date,
    totals: UsageTotals,
}

struct PartRow {
    name: String,
    link: Option<String>,
    totals: UsageTotals,
    /// Of the longest bar, percent.
    length: f64,
}

/// Shows it.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    query: Query<UsageFields>,
) -> Result<Response, HttpError> {
    let fields = query.0;
    let (shown, wrong) = page::filtered(Box::pin(shown(&app, &caller, &fields)).await)?;
    let frame = Frame::new(&visit, Some(Section::Usage), Section::Usage.label());
    let error = wrong.as_ref().map(|error| error.body().clone());
    page::show_filtered(wrong, &UsagePage { frame, fields, error, shown })
}

async fn shown(app: &App, caller: &Caller, fields: &UsageFields) -> Result<Shown, HttpError> {
    let until = fields.until.map_or_else(clock::now, |moment| moment.0);
    let since = match fields.since {
        Some(since) => since.0,
        // From the beginning of a day on.
        None => midnight(until.checked_sub(DEFAULT_SPAN).unwrap_or(until)),
    };
    let ask = |by: UsageBy| PageQuery {
        by: Some(by.as_str().to_owned()),
        subject: fields.subject.clone(),
        llm: fields.llm.clone(),
        since: Some(since),
        until: Some(until),
        limit: Some(MAX_PARTS),
        ..PageQuery::default()
    };
    let by_day = Box::pin(usage::page(app, caller, ask(UsageBy::Day))).await?;
    let by_part = Box::pin(usage::page(app, caller, ask(fields.by.by()))).await?;
    let days = days(&by_day)?;
    let measure = fields.show;
    let bars: Vec<Bar> = days
        .iter()
        .map(|day| Bar { label: day.date.strftime("%m-%d").to_string(), value: measure.of(&day.totals) })
        .collect();
    let (parts, others) = parts(fields, by_part.items);
    Ok(Shown {
        plot: plot::bars(&bars, |value| measure.label(value)),
        since: by_day.since,
        until: by_day.until,
        totals: by_day.totals,
        complete: by_day.complete && by_part.complete,
        days,
        parts,
        others,
    })
}

fn midnight(at: Timestamp) -> Timestamp {
    let day = TimeZone::UTC.to_datetime(at).date();
    TimeZone::UTC.to_timestamp(day.to_datetime(Time::midnight())).unwrap_or(at)
}

/// Every day of the time, also those without usage.
fn days(sums: &Sums) -> Result<Vec<Day>, HttpError> {
    let date = |at: Timestamp| TimeZone::UTC.to_datetime(at).date();
    let used: HashMap<Date, UsageTotals> =
        sums.items.iter().filter_map(|item| Some((date(item.from?), item.totals))).collect();
    let last = date(sums.until.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(sums.until));
    let days = date(sums.since).series(1.day()).take_while(|day| *day <= last).take(MAX_DAYS + 1);
    let days: Vec<Day> =
        days.map(|date| Day { date, totals: used.get(&date).copied().unwrap_or_default() }).collect();
    if days.len() > MAX_DAYS {
        let message = format!("this page shows {MAX_DAYS} days at most");
        return Err(HttpError::invalid("since", message).hint("choose a shorter time, or ask `mcpctl usage`"));
    }
    Ok(days)
}

/// The largest parts, and the sum of the others.
fn parts(fields: &UsageFields, mut items: Vec<UsageItem>) -> (Vec<PartRow>, Option<(usize, UsageTotals)>) {
    let value = |item: &UsageItem| fields.show.of(&item.totals);
    items.sort_by(|one, other| value(other).total_cmp(&value(one)));
    let names = DistinctNames::of(&items);
    let longest = items.first().map_or(0.0, value);
    let rest = items.split_off(items.len().min(SHOWN_PARTS));
    let row = |item: UsageItem| {
        let (name, link) = part(fields.by, &names, &item);
        let length = if longest > 0.0 { 100.0 * value(&item) / longest } else { 0.0 };
        PartRow { name, link, totals: item.totals, length }
    };
    let others = (!rest.is_empty()).then(|| {
        let sum = rest.iter().fold(UsageTotals::default(), |sum, item| add(sum, &item.totals));
        (rest.len(), sum)
    });
    (items.into_iter().map(row).collect(), others)
}

fn add(sum: UsageTotals, more: &UsageTotals) -> UsageTotals {
    UsageTotals {
        requests: sum.requests.saturating_add(more.requests),
        fallbacks: sum.fallbacks.saturating_add(more.fallbacks),
        failures: sum.failures.saturating_add(more.failures),
        input_tokens: sum.input_tokens.saturating_add(more.input_tokens),
        output_tokens: sum.output_tokens.saturating_add(more.output_tokens),
        cached_input_tokens: sum.cached_input_tokens.saturating_add(more.cached_input_tokens),
        cache_write_input_tokens: sum.cache_write_input_tokens.saturating_add(more.cache_write_input_tokens),
        reasoning_tokens: sum.reasoning_tokens.saturating_add(more.reasoning_tokens),
        estimated: sum.estimated.saturating_add(more.estimated),
        unpriced: sum.unpriced.saturating_add(more.unpriced),
        cost: sum.cost + more.cost,
    }
}

/// The name of a part, and its page.
fn part(by: Part, names: &DistinctNames, item: &UsageItem) -> (String, Option<String>) {
    match by {
        Part::Llm => (names.llm(item).unwrap_or_default(), None),
        Part::User => {
            let link =
                item.principal.as_deref().filter(|_| !item.principal_deleted).and_then(links::principal);
            (names.principal(item).unwrap_or_default(), link)
        }
        Part::Group => {
            (item.group.as_ref().map_or_else(|| "in no group".to_owned(), ToString::to_string), None)
        }
        Part::Model => match item.model.as_deref().unwrap_or_default() {
            "" => ("not named by its provider".to_owned(), None),
            model => (model.to_owned(), None),
        },
    }
}

impl UsagePage {
    fn tokens(&self) -> u64 {
        self.shown.totals.input_tokens.saturating_add(self.shown.totals.output_tokens)
    }

    /// The page of the last so many days.
    fn last_days(&self, days: i64) -> String {
        let since = midnight(
            clock::now().checked_sub(SignedDuration::from_hours(24 * (days - 1))).unwrap_or_default(),
        );
        let fields = [
            ("by", Some(self.fields.by.by().as_str().to_owned())),
            ("show", Some(self.fields.show.as_str().to_owned())),
            ("subject", self.fields.subject.clone()),
            ("llm", self.fields.llm.clone()),
            ("since", Some(since.to_string())),
        ];
        address(PATH, &fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(llm: &str, requests: u64) -> UsageItem {
        UsageItem {
            llm: Some(llm.to_owned()),
            totals: UsageTotals { requests, ..UsageTotals::default() },
            ..UsageItem::default()
        }
    }

    #[test]
    fn largest_parts_come_first_and_the_others_are_one() {
        let items = (0..60).map(|n| item(&format!("m{n}"), n)).collect();
        let (rows, others) = parts(&UsageFields::default(), items);
        assert_eq!((rows.len(), rows[0].name.as_str(), rows[0].length), (SHOWN_PARTS, "m59", 100.0));
        let (count, totals) = others.unwrap();
        assert_eq!((count, totals.requests), (10, 45));
    }

    #[test]
    fn days_without_usage_are_shown_and_too_many_are_refused() {
        let sums = |since: &str, until: &str| Sums {
            since: since.parse().unwrap(),
            until: until.parse().unwrap(),
            by: vec![UsageBy::Day],
            items: vec![UsageItem { from: Some("2026-03-02T00:00:00Z".parse().unwrap()), ..item("a", 3) }],
            totals: UsageTotals::default(),
            complete: true,
            next: None,
        };
        let shown = days(&sums("2026-03-01T00:00:00Z", "2026-03-04T00:00:00Z")).unwrap();
        let counts: Vec<_> = shown.iter().map(|day| (day.date.day(), day.totals.requests)).collect();
        assert_eq!(counts, [(1, 0), (2, 3), (3, 0)]);
        assert!(days(&sums("2024-01-01T00:00:00Z", "2026-03-04T00:00:00Z")).is_err());
    }

    #[test]
    fn values_have_short_labels() {
        assert_eq!(Measure::Tokens.label(2_500_000.0), "2.5M");
        assert_eq!(Measure::Cost.label(0.25), "$0.25");
        assert_eq!(Measure::Requests.label(9000.0), "9000");
        assert_eq!(Measure::Requests.label(12_000.0), "12k");
    }
}
