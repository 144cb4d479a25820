//! Lists of models as they travel: OpenAI's shape, and pages in Anthropic's ("List Models" of its documentation).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Models of a page that names no limit.
const DEFAULT_LIMIT: usize = 20;
/// Models of a page at most.
const MAX_LIMIT: usize = 1000;

/// A model in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// By which a request names it.
    pub id: String,
    /// Since when it exists, in seconds since 1970.
    pub created: i64,
    /// Who serves it.
    pub owned_by: String,
}

impl Model {
    /// The model in OpenAI's shape.
    pub fn openai(&self) -> Value {
        let Self { id, created, owned_by } = self;
        json!({"id": id, "object": "model", "created": created, "owned_by": owned_by})
    }

    /// The model in Anthropic's shape.
    pub fn anthropic(&self) -> Value {
        let created = Timestamp::from_second(self.created).unwrap_or_default().to_string();
        json!({"type": "model", "id": self.id, "display_name": self.id, "created_at": created})
    }
}

/// A list in OpenAI's shape, as it is read.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ModelList {
    /// The models.
    pub data: Vec<Model>,
}

/// All models in OpenAI's shape, for a request with this query.
///
/// Codex, which sends its `client_version`, logs errors at each start unless the list has `models` too: descriptions
/// with its own instructions for each model. An empty list makes it use those that it brings along.
pub fn openai_list(models: &[Model], query: Option<&str>) -> Value {
    let data: Vec<Value> = models.iter().map(Model::openai).collect();
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    match pairs.any(|pair| pair.starts_with("client_version=")) {
        true => json!({"object": "list", "data": data, "models": []}),
        false => json!({"object": "list", "data": data}),
    }
}

/// The query of a page of models.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PageQuery {
    limit: Option<usize>,
    after_id: Option<String>,
    before_id: Option<String>,
    /// Sent by the beta clients of Anthropic's SDKs; it changes nothing.
    #[serde(rename = "beta")]
    _beta: Option<bool>,
}

/// A page that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The limit is out of bounds.
    #[error("`limit` is from 1 to {MAX_LIMIT}")]
    Limit,
    /// Both ends are given.
    #[error("`after_id` and `before_id` exclude each other")]
    Both,
    /// The model beside which the page begins is not in the list.
    #[error("`{param}` names no model of the list")]
    NoSuchModel {
        /// The parameter.
        param: &'static str,
    },
}

impl PageError {
    /// The parameter that is wrong.
    pub const fn param(&self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Both => "before_id",
            Self::NoSuchModel { param } => param,
        }
    }
}

/// A page of the models in Anthropic's shape.
///
/// # Errors
/// When there is no such page.
pub fn anthropic_page(models: &[Model], query: &PageQuery) -> Result<Value, PageError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(PageError::Limit);
    }
    let place = |id: &str, param| {
        models.iter().position(|model| model.id == id).ok_or(PageError::NoSuchModel { param })
    };
    let range = match (query.after_id.as_deref(), query.before_id.as_deref()) {
        (Some(_), Some(_)) => return Err(PageError::Both),
        (None, Some(before)) => {
            let end = place(before, "before_id")?;
            end.saturating_sub(limit)..end
        }
        (after, None) => {
            let start = after.map_or(Ok(0), |after| place(after, "after_id").map(|place| place + 1))?;
            start..models.len().min(start + limit)
        }
    };
    // In the direction in which the caller turns the pages.
    let has_more = if query.before_id.is_some() { range.start > 0 } else { range.end < models.len() };
    let page = models.get(range).unwrap_or_default();
    let data: Vec<Value> = page.iter().map(Model::anthropic).collect();
    let id = |model: Option<&Model>| model.map(|model| model.id.clone());
    Ok(json!({"data": data, "has_more": has_more, "first_id": id(page.first()), "last_id": id(page.last())}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codex_alone_gets_an_empty_list_of_descriptions() {
        let models = models(&["gpt"]);
        assert_eq!(openai_list(&models, Some("client_version=0.171.0"))["models"], json!([]));
        for query in [None, Some(""), Some("limit=1"), Some("limit=client_version=1")] {
            assert_eq!(openai_list(&models, query).get("models"), None, "{query:?}");
        }
    }

    fn models(ids: &[&str]) -> Vec<Model> {
        let model =
            |id: &&str| Model { id: (*id).to_owned(), created: 1_700_000_000, owned_by: "x".to_owned() };
        ids.iter().map(model).collect()
    }

    fn page(query: Value) -> Result<(Vec<String>, bool), PageError> {
        let page = anthropic_page(&models(&["a", "b", "c", "d"]), &serde_json::from_value(query).unwrap())?;
        let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
        let ids: Vec<String> = page["data"].as_array().unwrap().iter().map(id).collect();
        assert_eq!(page["first_id"].as_str(), ids.first().map(String::as_str));
        assert_eq!(page["last_id"].as_str(), ids.last().map(String::as_str));
        Ok((ids, page["has_more"].as_bool().unwrap()))
    }

    #[test]
    fn both_shapes_show_the_same_model() {
        let model = &models(&["gpt"])[0];
        assert_eq!(
            model.openai(),
            json!({"id": "gpt", "object": "model", "created": 1_700_000_000, "owned_by": "x"})
        );
        let anthropic = json!({"type": "model", "id": "gpt", "display_name": "gpt", "created_at": "2023-11-14T22:13:20Z"});
        assert_eq!(model.anthropic(), anthropic);
        assert_eq!(serde_json::from_value::<Model>(model.openai()).unwrap(), *model);
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
        for (query, expected, has_more) in [
            (json!({}), &["a", "b", "c", "d"][..], false),
            (json!({"limit": 2}), &["a", "b"], true),
            (json!({"limit": 2, "after_id": "b", "beta": true}), &["c", "d"], false),
            (json!({"limit": 1, "after_id": "b"}), &["c"], true),
            (json!({"after_id": "d"}), &[], false),
            (json!({"limit": 2, "before_id": "d"}), &["b", "c"], true),
            (json!({"limit": 2, "before_id": "b"}), &["a"], false),
        ] {
            assert_eq!(page(query.clone()).unwrap(), (ids(expected), has_more), "{query}");
        }
        for (query, error) in [
            (json!({"limit": 0}), PageError::Limit),
            (json!({"limit": 1001}), PageError::Limit),
            (json!({"after_id": "a", "before_id": "b"}), PageError::Both),
            (json!({"after_id": "x"}), PageError::NoSuchModel { param: "after_id" }),
        ] {
            assert_eq!(page(query.clone()), Err(error), "{query}");
        }
        assert!(serde_json::from_value::<PageQuery>(json!({"page": 2})).is_err());
    }
}
