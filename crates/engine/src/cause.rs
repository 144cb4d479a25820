//! Why an engine ended, by what it wrote: its last line seldom says it, so the first one of its complaints does. Words of a
//! log are a hint for people, and decide nothing.

/// What a line says of the complaint before it: Python's validation errors are only counted there, and stand on lines of
/// their own, each a little to the right.
pub(crate) fn explanation<'a>(complaint: &str, line: &'a str) -> Option<&'a str> {
    let text = without_head(line);
    let explains = complaint.contains(" validation error") && text.starts_with("  ");
    // Behind it stands what was validated.
    let said = text.split_once(" [type=").map_or(text, |(said, _)| said).trim();
    (explains && !said.is_empty()).then_some(said)
}

/// What a line complains of, without what stands before it; nothing where it is no complaint. Of llama.cpp that is a line
/// of level `E`, of Python the line with the exception, unless it only points at another.
pub(crate) fn complaint(line: &str) -> Option<&str> {
    of_llama(line).or_else(|| of_python(line))
}

/// `0.00.005.420 E gguf_init_from_reader: invalid magic characters`, and before there were times and levels, `error: …`.
fn of_llama(line: &str) -> Option<&str> {
    if line.starts_with("error: ") {
        return Some(line);
    }
    let (time, rest) = line.split_once(" E ")?;
    let is_time = !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_time.then(|| rest.trim_start())
}

/// `ValueError: …`, bare or behind `(EngineCore pid=1) ERROR 11-24 14:54:23 [core.py:15] `.
fn of_python(line: &str) -> Option<&str> {
    let logged = ["INFO ", "DEBUG ", "WARNING "].iter().any(|level| line.contains(level));
    let text =
        line.split_once(" ERROR ").and_then(|(_, rest)| rest.split_once("] ")).map_or(line, |(_, text)| text);
    let (name, said) = text.split_once(": ")?;
    let named = ["Error", "Exception"].iter().any(|ending| name.ends_with(ending))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    let points_elsewhere = said.to_ascii_lowercase().contains("root cause");
    (named && !logged && !points_elsewhere).then_some(text)
}

/// A line of vLLM's log at the level of errors, without who says it, when and where.
fn without_head(line: &str) -> &str {
    line.split_once(" ERROR ").and_then(|(_, rest)| rest.split_once("] ")).map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as vLLM 0.32 and llama-server write them.
    #[test]
    fn complaints_of_real_engines_are_told_from_what_follows_them() {
        let vllm = "(VllmWorker-0 pid=7) ERROR 11-24 14:54:23 [multiproc_executor.py:953] ValueError: Available memory on node 0 (10.69/12.59 GiB) on startup is less";
        assert_eq!(
            complaint(vllm),
            Some("ValueError: Available memory on node 0 (10.69/12.59 GiB) on startup is less")
        );
        assert_eq!(
            complaint("OSError: [Errno 98] Address already in use"),
            Some("OSError: [Errno 98] Address already in use")
        );
        assert_eq!(
            complaint("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"),
            Some("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig")
        );
        let llama = "0.00.005.420 E gguf_init_from_reader: invalid magic characters: 'no m', expected 'GGUF'";
        assert_eq!(
            complaint(llama),
            Some("gguf_init_from_reader: invalid magic characters: 'no m', expected 'GGUF'")
        );
        assert_eq!(complaint("error: invalid argument: --portx"), Some("error: invalid argument: --portx"));
        for other in [
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
            "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
            "(APIServer pid=2) WARNING 11-24 14:53:48 [system_utils.py:255] OSError: [Errno 24] Too many open files",
            "(EngineCore pid=1) ERROR 11-24 14:54:24 [core.py:1510] Traceback (most recent call last):",
            "0.00.005.522 I srv    operator(): operator(): cleaning up before exit...",
            "    raise ValueError(",
            "all is well",
        ] {
            assert_eq!(complaint(other), None, "{other}");
        }
    }

    #[test]
    fn a_validation_error_is_explained_by_the_line_after_it() {
        let counted = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig";
        let line = "  Value error, Sleep mode is not supported on current platform. [type=value_error, input_value=ArgsKwargs(())]";
        let said = "Value error, Sleep mode is not supported on current platform.";
        assert_eq!(explanation(counted, line), Some(said));
        assert_eq!(explanation(counted, "RuntimeError: it did not start"), None);
        assert_eq!(explanation("ValueError: no", line), None);
    }
}
