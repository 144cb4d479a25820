//! Limits.

use std::str::FromStr;

use mcpctl_api::{
    Document, HumanDuration, Name, Spec, Usd,
    spec::{Allowance, Budget, Currency, LimitScope, LimitSpec, NamePattern, Period},
};

use super::{document, from_word, subjects::Subjects};

/// A bound on requests, tokens or cost; everyone and every Llm where none is named.
#[derive(clap::Args)]
pub(super) struct Limit {
    /// What it is called
    name: Name,
    #[command(flatten)]
    subjects: Subjects,
    /// With these Llms, in whose names * stands for any characters
    #[arg(long = "llm", value_delimiter = ',', value_name = "PATTERN")]
    llms: Vec<NamePattern>,
    /// Whether each account has it for itself (subject), or all share it (all)
    #[arg(long, value_name = "SCOPE", value_parser = scope)]
    per: LimitScope,
    /// The most requests, e.g. 60/1m, or 1000/day: in any stretch of that length, or in each day, week or month of UTC
    #[arg(long, value_name = "MAX/TIME")]
    requests: Option<AmountPer<u64>>,
    /// The most tokens of input and output, e.g. 200000/1h
    #[arg(long, value_name = "MAX/TIME")]
    tokens: Option<AmountPer<u64>>,
    /// The most US dollars, e.g. 50/month
    #[arg(long, value_name = "MAX/TIME")]
    cost: Option<AmountPer<Usd>>,
    /// For people
    #[arg(long)]
    description: Option<String>,
}

impl Limit {
    pub(super) fn document(self) -> Document {
        let Self { name, subjects, llms, per, requests, tokens, cost, description } = self;
        let some = |listed: Vec<_>| (!listed.is_empty()).then_some(listed);
        let allowance = |AmountPer { max, window, period }: AmountPer<u64>| Allowance { max, window, period };
        let budget =
            |AmountPer { max, window, period }| Budget { max, currency: Currency::default(), window, period };
        let subjects = subjects.list();
        let spec = LimitSpec {
            description,
            subjects: (!subjects.is_empty()).then_some(subjects),
            llms: some(llms),
            per,
            requests: requests.map(allowance),
            tokens: tokens.map(allowance),
            cost: cost.map(budget),
        };
        document(name, Spec::Limit(spec))
    }
}

/// `subject` or `all`; what people write for it is named too.
fn scope(word: &str) -> Result<LimitScope, String> {
    from_word(word).map_err(|_| match word.to_ascii_lowercase().as_str() {
        "user" | "users" | "account" | "person" | "serviceaccount" | "subjects" => {
            "did you mean `subject`? each account has it for itself".to_owned()
        }
        "group" | "groups" => {
            "did you mean `all`? the members of a group that --group names share it".to_owned()
        }
        _ => "write `subject`, for each account by itself, or `all`, which all share".to_owned(),
    })
}

/// An amount in a window or a calendar period: `60/1m`, `50/month`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AmountPer<T> {
    max: T,
    window: Option<HumanDuration>,
    period: Option<Period>,
}

impl<T: serde::de::DeserializeOwned> FromStr for AmountPer<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let lone: bool = serde_json::from_str::<T>(text).is_ok();
            let amounts = if lone { [text; 3] } else { ["60", "1000", "50"] };
            let [window, day, month] = amounts;
            format!("`{text}` is not an amount per time; write e.g. {window}/1m, {day}/day or {month}/month")
        };
        let (max, time) = text.split_once('/').ok_or_else(wrong)?;
        let max = serde_json::from_str(max).map_err(|_| wrong())?;
        Ok(match from_word(time) {
            Ok(period) => Self { max, window: None, period: Some(period) },
            Err(_) => Self { max, window: Some(time.parse().map_err(|_| wrong())?), period: None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_time() {
        let minute = Some(HumanDuration::from_secs(60));
        assert_eq!("60/1m".parse(), Ok(AmountPer { max: 60_u64, window: minute, period: None }));
        let month = AmountPer { max: 50_u64, window: None, period: Some(Period::Month) };
        assert_eq!("50/month".parse(), Ok(month));
        let cents: AmountPer<Usd> = "0.5/day".parse().unwrap();
        assert_eq!((cents.max.nanos(), cents.period), (500_000_000, Some(Period::Day)));
        let error = "5".parse::<AmountPer<Usd>>().unwrap_err();
        assert!(error.ends_with("write e.g. 5/1m, 5/day or 5/month"), "{error}");
        assert!(scope("user").unwrap_err().starts_with("did you mean `subject`?"));
        assert_eq!(scope("all"), Ok(LimitScope::All));
        for wrong in ["", "60", "60/", "/1m", "-1/1m", "1.5/1m", "60/1", "60/year", "60/1m/1m", "null/day"] {
            let error = wrong.parse::<AmountPer<u64>>().unwrap_err();
            assert!(error.starts_with(&format!("`{wrong}` is not an amount per time")), "{error}");
        }
    }
}
