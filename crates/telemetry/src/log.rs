//! Logs on stderr: one line per event, for people or as JSON, set up once at the start of a program. A program's output
//! goes to stdout and not through here.

mod access_fields;
mod filter;
mod queue;
mod time;

use std::{
    fmt::{self, Write as _},
    io::IsTerminal as _,
    str::FromStr,
};

use jiff::Timestamp;
use mcpctl_api::visible;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    Layer,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter,
        format::{DefaultFields, Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use access_fields::AccessFields;
pub use filter::{LogFilter, LogFilterError};
use queue::LineQueue;
pub use queue::LogGuard;
use time::write_time;

/// Names what runs, e.g. a request, to a function that takes a field's name and value. Asked for every line but the access log's.
pub type LogFields = fn(&mut dyn FnMut(&'static str, &str));

/// The target of the access log's lines.
const ACCESS_TARGET: &str = "access";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A readable line: time, level, program, message, fields.
    #[default]
    Text,
    /// A JSON object per line, with the program's name in `service`.
    Json,
}

/// The name of a log format is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log format `{0}`: it is `text` or `json`")]
pub struct LogFormatError(String);

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogFormatError(other.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Why logging could not be set up, a mistake of the program.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read, although it was checked.
    #[error("the log filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Logging was set up before in this process.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Starts logging to stderr for the program `service`. Lines of the access log are collected until the guard is dropped; others have
/// the fields of `running` too.
pub fn init(
    service: &'static str,
    format: LogFormat,
    filter: &LogFilter,
    running: LogFields,
) -> Result<LogGuard, InitError> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = !no_color && std::io::stderr().is_terminal();
    start(Lines { service, color, running }, format, filter, std::io::stderr)
}

/// Starts logging to `writer`, without colours.
pub fn init_to<W>(
    service: &'static str,
    format: LogFormat,
    filter: &LogFilter,
    running: LogFields,
    writer: W,
) -> Result<LogGuard, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    start(Lines { service, color: false, running }, format, filter, writer)
}

fn start<W>(lines: Lines, format: LogFormat, filter: &LogFilter, writer: W) -> Result<LogGuard, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let queue = LineQueue::new(writer);
    subscriber(lines, format, filter, queue.clone())?.try_init().map_err(|_| InitError::AlreadySet)?;
    Ok(queue.start())
}

fn subscriber<W>(
    lines: Lines,
    format: LogFormat,
    filter: &LogFilter,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, InitError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter.read()?;
    // A log that cannot be written cannot report that either, and reporting it on stderr would panic.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let layer = match format {
        LogFormat::Text => {
            layer.fmt_fields(DefaultFields::new()).event_format(TextLines(lines)).with_ansi(false).boxed()
        }
        LogFormat::Json => {
            let inner = tracing_subscriber::fmt::format().json().flatten_event(true).with_span_list(false);
            layer.fmt_fields(JsonFields::new()).event_format(JsonLines { lines, inner }).boxed()
        }
    };
    Ok(tracing_subscriber::registry().with(filter).with(layer))
}

/// Room for most lines, bytes.
const LINE_BYTES: usize = 1024;

/// What lines of either format need.
#[derive(Clone, Copy)]
struct Lines {
    service: &'static str,
    color: bool,
    running: LogFields,
}

/// `time level service message fields, fields of what runs`.
struct TextLines(Lines);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Self(Lines { service, color, running }) = *self;
        let mut line = String::with_capacity(LINE_BYTES);
        if event.metadata().target() == ACCESS_TARGET {
            event.record(&mut AccessFields::new(&mut line));
        } else {
            context.format_fields(Writer::new(&mut line), event)?;
            running(&mut |name, value| {
                let is_word = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                // The writing of a string does not fail.
                let _ =
                    if is_word { write!(line, " {name}={value}") } else { write!(line, " {name}={value:?}") };
            });
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                write!(line, " {fields}")?;
            }
        }
        let (start, end) = match (color, *event.metadata().level()) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        write_time(Timestamp::now(), |part| writer.write_str(part))?;
        for part in [" ", start, level_name(*event.metadata().level()), end, " ", service, " "] {
            writer.write_str(part)?;
        }
        // Values come from callers and upstreams too: they must not start a new line or recolour the terminal.
        if visible::is_plain(&line) {
            writer.write_str(&line)?;
        } else {
            for character in line.chars() {
                if visible::is_hidden(character) {
                    write!(writer, "{}", character.escape_default())?;
                } else {
                    writer.write_char(character)?;
                }
            }
        }
        writer.write_char('\n')
    }
}

/// The name of a level, five characters wide.
const fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => " WARN",
        Level::INFO => " INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// The usual JSON object, with the program's name in front of the other fields, and what runs in `span`.
struct JsonLines {
    lines: Lines,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(LINE_BYTES);
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        // JSON escapes control characters of C0 only; the line break at the end is not a value's.
        let line = visible::escape(line.trim_end());
        let rest = line.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or(fmt::Error)?;
        write!(writer, "{{\"service\":\"{}\",{rest}", self.lines.service)?;
        if event.metadata().target() != ACCESS_TARGET {
            let mut fields = Map::new();
            (self.lines.running)(&mut |name, value| drop(fields.insert(name.to_owned(), value.into())));
            if !fields.is_empty() {
                fields.insert("name".to_owned(), "request".into());
                write!(writer, ",\"span\":{}", visible::escape(&Value::Object(fields).to_string()))?;
            }
        }
        writeln!(writer, "}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const LINES: Lines = Lines {
        service: "mcpd",
        color: false,
        running: |field| {
            field("id", "c1");
            field("principal", "User a");
        },
    };

    const RUNNING: &str = " id=c1 principal=\"User a\"\n";

    fn capture(format: LogFormat, filter: &str, color: bool, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber =
            subscriber(Lines { color, ..LINES }, format, &filter.parse().unwrap(), move || writer.clone())
                .unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn without_time(line: &str) -> &str {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        rest
    }

    #[test]
    fn text_is_one_line_with_the_message_first() {
        let text = capture(LogFormat::Text, "info", false, || {
            tracing::warn!(llm = "claude", attempts = 2, "the upstream answered 503");
        });
        assert_eq!(
            without_time(&text),
            " WARN mcpd the upstream answered 503 llm=\"claude\" attempts=2 id=c1 principal=\"User a\"\n"
        );
    }

    #[test]
    fn lines_of_the_access_log_read_as_others_do() {
        let written = |access: bool, text: &str| {
            capture(LogFormat::Text, "info", false, || {
                let (none, some) = (None::<u64>, Some(7_u64));
                let (message, cost, captured) = ("answered", 0.5_f64, Some(true));
                if access {
                    tracing::info!(target: "access", none, some, id = %"x", text, cost, captured, "{message}");
                } else {
                    tracing::info!(none, some, id = %"x", text, cost, captured, "{message}");
                }
            })
        };
        for text in ["plain", "", "a \"quoted\" \\ word", "new\nline", "ü \u{202e}"] {
            let line = written(true, text);
            assert_eq!(
                without_time(&line),
                without_time(&written(false, text)).replace(RUNNING, "\n"),
                "{text}"
            );
        }
        let line = written(true, "plain");
        assert_eq!(
            without_time(&line),
            " INFO mcpd answered some=7 id=x text=\"plain\" cost=0.5 captured=true\n"
        );
    }

    #[test]
    fn value_cannot_forge_a_line_or_recolour_the_terminal() {
        let evil = "x\n2026-01-01T00:00:00Z  INFO mcpd access allowed \x1b[2J\u{9b}2J\u{202e}\u{200b}";
        for color in [false, true] {
            let text =
                capture(LogFormat::Text, "info", color, || tracing::info!(by = %evil, "asked for {evil}"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            let ours = text.replace("\x1b[32m", "").replace("\x1b[0m", "");
            assert!(!ours.trim_end().contains(visible::is_hidden), "{text:?}");
        }
        let json = capture(LogFormat::Json, "info", false, || tracing::info!("asked for {evil}"));
        assert_eq!(json.lines().count(), 1, "{json:?}");
        assert!(!json.trim_end().contains(visible::is_hidden), "{json:?}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["message"], format!("asked for {evil}"));
    }

    #[test]
    fn lines_have_colors_only_if_requested() {
        let plain = capture(LogFormat::Text, "info", false, || tracing::error!("no"));
        assert!(!plain.contains('\x1b'), "{plain:?}");
        let color = capture(LogFormat::Text, "info", true, || tracing::error!("no"));
        assert!(color.contains("\x1b[31mERROR\x1b[0m"), "{color:?}");
    }

    #[test]
    fn json_is_one_object_with_the_service_name() {
        let json = capture(LogFormat::Json, "info", false, || {
            tracing::info!(llm = "claude", "served \"it\"");
        });
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["service"], "mcpd");
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["message"], "served \"it\"");
        assert_eq!(value["llm"], "claude");
        assert_eq!(value["span"]["id"], "c1");
    }

    #[test]
    fn filter_is_applied() {
        let text = capture(LogFormat::Text, "warn", false, || {
            tracing::info!("quiet");
            tracing::warn!("loud");
        });
        assert!(text.contains("loud") && !text.contains("quiet"), "{text}");
    }

    #[test]
    fn format_names_parse_and_print() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "JSON".parse::<LogFormat>().unwrap_err();
        assert_eq!(error.to_string(), "unknown log format `JSON`: it is `text` or `json`");
    }
}
