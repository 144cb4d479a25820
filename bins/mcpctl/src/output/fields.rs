//! Whether the paths of a format lead to fields that a kind has. A path may find nothing because a resource leaves an optional field
//! out; one that leads to no field of any kind that is shown is most likely a habit from kubectl, or mistyped.

use mcpctl_api::{
    Kind,
    schema::{Field, KindSchema},
    vocabulary::WRAPPERS,
};

use super::{
    Format,
    jsonpath::{JsonPath, Part, Path, Segment, Step},
};
use crate::failure::Failure;

/// Changes of a path until it is given up.
const MAX_CHANGES: usize = 8;

/// Fields of kubectl's objects, and where ours have the same.
const RENAMED: [(&str, &str); 5] = [
    ("creationTimestamp", "createdAt"),
    ("uid", "id"),
    ("resourceVersion", "revision"),
    // The column of tables.
    ("AGE", "createdAt"),
    ("age", "createdAt"),
];

/// What a path begins at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// A resource.
    Resource,
    /// `{"items": […]}`
    List,
    /// An event of a watch.
    Event,
}

/// The fields of the kinds that are shown.
pub struct Known {
    kinds: Vec<(Kind, Field)>,
    root: Root,
}

/// What is at some place of a document.
#[derive(Debug, Clone)]
enum Shape<'a> {
    Fields(&'a [Field]),
    /// An object around resources.
    Around(Vec<(&'static str, Shape<'a>)>),
    List(Box<Shape<'a>>),
    /// Any keys.
    Map(Box<Shape<'a>>),
    Value,
    Unknown,
}

/// Where a path leads to no field.
struct Missing<'a> {
    /// The path, from the element where it is in a filter.
    path: &'a [Segment],
    in_filter: bool,
    from: Vec<Shape<'a>>,
    /// The segment that selects nothing.
    at: usize,
    /// What it would select from.
    there: Vec<Shape<'a>>,
}

impl Known {
    /// The fields of these kinds.
    pub fn new(kinds: &[Kind], root: Root) -> Self {
        let field = |kind: &Kind| Some((*kind, KindSchema::of(*kind)?.field(&[]).ok()?));
        Self { kinds: kinds.iter().filter_map(field).collect(), root }
    }

    /// Each path of a format that leads to no field, and what was most likely meant.
    pub fn unknown_in(&self, format: &Format) -> Vec<Failure> {
        let mut found = Vec::new();
        match format {
            Format::JsonPath(template) | Format::JsonPathAsJson(template) => {
                found = self.unknown_in_template(template);
            }
            Format::Columns(columns) => found.extend(columns.paths().filter_map(|path| self.unknown(path))),
            Format::Table | Format::Wide | Format::Json | Format::Yaml | Format::Name => {}
        }
        found
    }

    /// Each path of a template that leads to no field.
    pub fn unknown_in_template(&self, template: &JsonPath) -> Vec<Failure> {
        let (root, mut found) = (self.shapes(), Vec::new());
        self.template(template.parts(), &root, &root, &mut found);
        found
    }

    /// A path that leads to no field, and what was most likely meant.
    pub fn unknown(&self, path: &Path) -> Option<Failure> {
        walk(self.shapes(), path.segments(), false).err().map(|missing| self.failure(&missing))
    }

    fn template<'a>(
        &self,
        parts: &'a [Part],
        root: &[Shape<'a>],
        current: &[Shape<'a>],
        found: &mut Vec<Failure>,
    ) {
        for part in parts {
            let (path, inside) = match part {
                Part::Text(_) => continue,
                Part::Path(path) => (path, None),
                Part::Range(path, inside) => (path, Some(inside)),
            };
            let from = if path.is_from_root() { root } else { current };
            match (walk(from.to_vec(), path.segments(), false), inside) {
                (Ok(each), Some(inside)) => self.template(inside, root, &each, found),
                (Ok(_), None) => {}
                (Err(missing), _) => found.push(self.failure(&missing)),
            }
        }
    }

    fn shapes(&self) -> Vec<Shape<'_>> {
        let resources = self.kinds.iter().map(|(_, field)| Shape::Fields(&field.fields));
        let around = |resource| match self.root {
            Root::Resource => resource,
            Root::List => Shape::Around(vec![("items", Shape::List(Box::new(resource)))]),
            Root::Event => Shape::Around(vec![("type", Shape::Value), ("object", resource)]),
        };
        resources.map(around).collect()
    }

    fn failure(&self, missing: &Missing<'_>) -> Failure {
        let kinds = self.kinds.iter().map(|(kind, _)| kind.plural()).collect::<Vec<_>>().join(", ");
        let written = written(missing.path, missing.in_filter);
        let failure = Failure::usage(format!("{kinds}: no field `{written}`"));
        if let Some(meant) = meant(missing) {
            return failure.hint(format!("did you mean `{meant}`?"));
        }
        match (missing.path.get(missing.at).and_then(Segment::name), self.kinds.as_slice()) {
            (Some("status"), _) => failure.hint("`mcpctl get` and `describe` show the state, as tables"),
            (_, [(kind, _)]) => {
                failure.hint(format!("`mcpctl explain {} --recursive` shows the fields", kind.plural()))
            }
            _ => failure.hint("`mcpctl explain KIND --recursive` shows the fields"),
        }
    }
}

impl Segment {
    /// The only field that it selects.
    fn name(&self) -> Option<&str> {
        match &self.step {
            Step::Fields(names) if names.len() == 1 => names.first().map(String::as_str),
            _ => None,
        }
    }
}

impl<'a> Shape<'a> {
    fn of(field: &'a Field) -> Self {
        Self::read(&field.type_name, field)
    }

    fn read(type_name: &str, field: &'a Field) -> Self {
        if let Some(inner) = type_name.strip_prefix("[]") {
            return Self::List(Box::new(Self::read(inner, field)));
        }
        if let Some(inner) = type_name.strip_prefix("map[string]") {
            return Self::Map(Box::new(Self::read(inner, field)));
        }
        match type_name {
            _ if !field.fields.is_empty() => Self::Fields(&field.fields),
            "" | "value" | "object" => Self::Unknown,
            _ => Self::Value,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        match self {
            Self::Fields(fields) => fields.iter().find(|field| field.name == name).map(Self::of),
            Self::Around(fields) => {
                fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape.clone())
            }
            Self::Map(inner) => Some((**inner).clone()),
            Self::Unknown => Some(Self::Unknown),
            Self::List(_) | Self::Value => None,
        }
    }

    fn elements(&self) -> Option<Self> {
        match self {
            Self::List(inner) | Self::Map(inner) => Some((**inner).clone()),
            Self::Fields(_) | Self::Around(_) | Self::Unknown => Some(Self::Unknown),
            Self::Value => None,
        }
    }

    fn places(&self) -> Option<Self> {
        match self {
            Self::List(inner) => Some((**inner).clone()),
            Self::Unknown => Some(Self::Unknown),
            Self::Fields(_) | Self::Around(_) | Self::Map(_) | Self::Value => None,
        }
    }

    /// This and everything below it.
    fn below(self, all: &mut Vec<Self>) {
        match &self {
            Self::Fields(fields) => fields.iter().for_each(|field| Self::of(field).below(all)),
            Self::Around(fields) => fields.iter().for_each(|(_, shape)| shape.clone().below(all)),
            Self::List(inner) | Self::Map(inner) => inner.as_ref().clone().below(all),
            Self::Value | Self::Unknown => {}
        }
        all.push(self);
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Fields(fields) => fields.iter().map(|field| field.name.as_str()).collect(),
            Self::Around(fields) => fields.iter().map(|(name, _)| *name).collect(),
            Self::List(_) | Self::Map(_) | Self::Value | Self::Unknown => Vec::new(),
        }
    }
}

/// What a path selects from these. A segment is unknown where it selects nothing from all of them.
fn walk<'a>(
    from: Vec<Shape<'a>>,
    path: &'a [Segment],
    in_filter: bool,
) -> Result<Vec<Shape<'a>>, Missing<'a>> {
    let mut shapes = from.clone();
    for (at, segment) in path.iter().enumerate() {
        let mut next = Vec::new();
        let is_known = match &segment.step {
            Step::Fields(names) => names.iter().all(|name| {
                let before = next.len();
                next.extend(shapes.iter().filter_map(|shape| shape.field(name)));
                next.len() > before
            }),
            Step::Elements(_) => {
                next.extend(shapes.iter().filter_map(Shape::elements));
                !next.is_empty()
            }
            Step::Places => {
                next.extend(shapes.iter().filter_map(Shape::places));
                !next.is_empty()
            }
            Step::Below => {
                shapes.iter().for_each(|shape| shape.clone().below(&mut next));
                true
            }
            Step::Unread => return Ok(vec![Shape::Unknown]),
        };
        if !is_known && !shapes.is_empty() {
            return Err(Missing { path, in_filter, from, at, there: shapes });
        }
        if let Step::Elements(filters) = &segment.step {
            for filter in filters {
                walk(next.clone(), filter, true)?;
            }
        }
        shapes = next;
    }
    Ok(shapes)
}

/// The path that leads to a field and differs least, with the rest of it unchanged.
fn meant(missing: &Missing<'_>) -> Option<String> {
    let mut path = missing.path.to_vec();
    for _ in 0..MAX_CHANGES {
        let change = match walk(missing.from.clone(), &path, missing.in_filter) {
            Ok(_) => return Some(written(&path, missing.in_filter)),
            Err(next) if next.in_filter == missing.in_filter => changed(next.path, next.at, &next.there)?,
            // Of two faults the one in the filter has a message of its own, once the other is corrected.
            Err(_) => return Some(written(&path, missing.in_filter)),
        };
        path = change;
    }
    None
}

/// The path with another segment at this place.
fn changed(path: &[Segment], at: usize, there: &[Shape<'_>]) -> Option<Vec<Segment>> {
    let segment = path.get(at)?;
    let has = |name: &str| there.iter().any(|shape| shape.names().contains(&name));
    let replaced_by = |count: usize, new: Vec<Segment>| {
        let mut path = path.to_vec();
        path.splice(at..(at + count).min(path.len()), new);
        Some(path)
    };
    let Some(name) = segment.name() else {
        // What is selected from is no list.
        return matches!(segment.step, Step::Places | Step::Elements(_))
            .then(|| replaced_by(1, Vec::new()))?;
    };
    let known = there.iter().flat_map(Shape::names);
    let similar = || mcpctl_api::similar::most_similar(name, known);
    let renamed = RENAMED.iter().find(|(theirs, ours)| *theirs == name && has(ours));
    if there.iter().any(|shape| matches!(shape, Shape::List(_))) {
        return replaced_by(0, vec![Segment::elements()]);
    }
    if name == "items" && path.get(at + 1).is_some_and(|next| next.name().is_none()) && !has("object") {
        return replaced_by(2, Vec::new());
    }
    if WRAPPERS.contains(&name) && has("name") {
        return replaced_by(1, Vec::new());
    }
    if let Some((_, ours)) = renamed {
        return replaced_by(1, vec![Segment::field(ours)]);
    }
    if let Some(similar) = similar() {
        return replaced_by(1, vec![Segment::field(similar)]);
    }
    if has("items") {
        return replaced_by(0, vec![Segment::field("items"), Segment::elements()]);
    }
    if has("object") {
        return replaced_by(0, vec![Segment::field("object")]);
    }
    None
}

fn written(path: &[Segment], in_filter: bool) -> String {
    let path: String = path.iter().map(|segment| segment.text.as_str()).collect();
    match (in_filter, path.is_empty()) {
        (true, _) => format!("@{path}"),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}

#[cfg(test)]
mod full;

#[cfg(test)]
mod tests {
    use mcpctl_api::Kind;
    use serde_json::Value;

    use super::*;

    fn template(text: &str, root: Root) -> Vec<String> {
        let known = Known::new(&[Kind::Llm], root);
        let found = known.unknown_in_template(&text.parse().unwrap());
        found.iter().map(Failure::in_one_line).collect()
    }

    #[test]
    fn fields_that_a_kind_has_are_known() {
        for path in [
            "{range .items[*]}{.name}{\"\\n\"}{range .targets[*]}{.url} {$.items[0].name}{end}{end}",
            "{.items[?(@.labels.team==\"x\")].apiKey.secret}",
            "{.items[?(@.targets[?@.weight > 1])].name}",
            "{..url} {..team} {.items..model} {.items[*]['name','model']}",
            r"{.items[0].labels.example\.com/tier} {.items[*].labels.*} {.items[-1:].timeouts.idle}",
            "{.} {.items} {.items[*].*}",
        ] {
            assert_eq!(template(path, Root::List), [""; 0], "{path}");
        }
        assert_eq!(template("{.type}{.object.name}", Root::Event), [""; 0]);
        assert_eq!(template("{.name}", Root::Resource), [""; 0]);
    }

    #[test]
    fn path_without_a_field_gets_the_likely_one() {
        use Root::{Event, List, Resource};
        for (root, path, meant) in [
            (List, ".items[*].metadata.name", ".items[*].name"),
            (List, ".items[0].spec.model", ".items[0].model"),
            (List, ".items[*].metadata.labels.team", ".items[*].labels.team"),
            (List, ".items[*].metadata.creationTimestamp", ".items[*].createdAt"),
            (List, ".items[*].targets.url", ".items[*].targets[*].url"),
            (List, ".items.modle", ".items[*].model"),
            (List, ".metadata.name", ".items[*].name"),
            (List, ".name", ".items[*].name"),
            (List, ".items[?(@.metadata.name==\"gpt\")].name", "@.name"),
            (List, ".items[*].name[0]", ".items[*].name"),
            (Resource, ".items[*].name", ".name"),
            (Resource, ".metadata.uid", ".id"),
            (Resource, ".timeouts.idel", ".timeouts.idle"),
            (Event, ".metadata.name", ".object.name"),
        ] {
            let found = template(&format!("{{{path}}}"), root);
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].ends_with(&format!("(did you mean `{meant}`?)")), "{path}: {found:?}");
        }
        let unlike = template("{.items[*].podIP}{range .items[*]}{.nothing}{end}", List);
        assert_eq!(unlike.len(), 2, "{unlike:?}");
        assert!(
            unlike[0].starts_with("llms: no field `.items[*].podIP` (`mcpctl explain llms"),
            "{unlike:?}"
        );
    }

    #[test]
    fn field_of_one_of_several_kinds_is_known() {
        let known = Known::new(&[Kind::User, Kind::Llm], Root::Resource);
        assert!(known.unknown(&".model".parse().unwrap()).is_none());
        let unknown = known.unknown(&".modle".parse().unwrap()).unwrap();
        assert_eq!(unknown.parts(), ("users, llms: no field `.modle`", Some("did you mean `.model`?")));
    }

    /// A field that a resource has is never reported, so the schemas name all of them.
    #[test]
    fn every_field_of_a_document_is_in_its_schema() {
        fn paths(value: &Value, path: &str, all: &mut Vec<String>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| {
                    paths(value, &format!("{path}['{key}']"), all);
                }),
                Value::Array(items) => items.iter().for_each(|item| paths(item, &format!("{path}[0]"), all)),
                _ => all.push(path.to_owned()),
            }
        }
        for kind in Kind::RESOURCES {
            let known = Known::new(&[kind], Root::Resource);
            let mut all = Vec::new();
            paths(&serde_json::to_value(full::resource(kind)).unwrap(), "$", &mut all);
            assert!(all.len() > 8, "{kind}: {all:?}");
            for path in all {
                let unknown = known.unknown(&path.parse().unwrap());
                assert!(unknown.is_none(), "{kind}: {path}");
            }
        }
    }
}
