use std::time::Duration;

use super::*;
use crate::ServerKind;

#[test]
fn linked_tool_has_the_venv_of_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let venv = dir.path().canonicalize().unwrap().join("tools/vllm");
    std::fs::create_dir_all(venv.join("bin")).unwrap();
    std::fs::write(venv.join("bin/vllm"), "").unwrap();
    let link = dir.path().join("vllm");
    std::os::unix::fs::symlink(venv.join("bin/vllm"), &link).unwrap();
    let mut spec = EngineSpec {
        name: "desk".to_owned(),
        server: ServerKind::VLLM,
        model: "gpt2".to_owned(),
        command: None,
        venv: None,
        context_length: None,
        gpu_memory_utilization: None,
        tensor_parallel_size: None,
        dtype: None,
        quantization: None,
        idle_timeout: Duration::from_secs(1),
        start_timeout: Duration::from_secs(1),
    };
    assert_eq!(python_venv(&spec, &link), Ok(None), "a directory is no venv by its name");
    std::fs::write(venv.join("pyvenv.cfg"), "").unwrap();
    assert_eq!(python_venv(&spec, &link), Ok(Some(venv)));
    spec.command = Some(link.clone());
    assert_eq!(python_venv(&spec, &link), Ok(None));
}

/// Lines as vLLM 0.32 writes them.
#[test]
fn complaint_is_the_exception_itself() {
    let line = "(VllmWorker-0 pid=7) ERROR 11-24 14:54:23 [multiproc_executor.py:953] ValueError: Available memory on node 0 (10.69/12.59 GiB) on startup is less";
    assert_eq!(
        Vllm.complaint(line),
        Some("ValueError: Available memory on node 0 (10.69/12.59 GiB) on startup is less")
    );
    for bare in [
        "OSError: [Errno 98] Address already in use",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
    ] {
        assert_eq!(Vllm.complaint(bare), Some(bare));
    }
    for other in [
        "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
        "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
        "(APIServer pid=2) WARNING 11-24 14:53:48 [system_utils.py:255] OSError: [Errno 24] Too many open files",
        "(EngineCore pid=1) ERROR 11-24 14:54:24 [core.py:1510] Traceback (most recent call last):",
        "    raise ValueError(",
        "all is well",
    ] {
        assert_eq!(Vllm.complaint(other), None, "{other}");
    }
}

#[test]
fn validation_error_is_explained_by_the_next_line() {
    let counted = "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig";
    let line = "  Value error, Sleep mode is not supported on current platform. [type=value_error, input_value=ArgsKwargs(())]";
    let message = "Value error, Sleep mode is not supported on current platform.";
    assert_eq!(Vllm.explanation(counted, line), Some(message));
    assert_eq!(Vllm.explanation(counted, "RuntimeError: it did not start"), None);
    assert_eq!(Vllm.explanation("ValueError: no", line), None);
}
