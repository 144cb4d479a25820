//! What an engine inherits of the agent's environment: what GPUs, libraries and downloads need, by name. Everything else
//! stays with the agent, because nobody can list the secrets that an environment may hold.

use std::ffi::OsString;

use mcpctl_supervisor::redaction;

use crate::arguments;

const NAMES: [&str; 36] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "CONDA_PREFIX",
    "TOKENIZERS_PARALLELISM",
    // Models are downloaded through the company's proxy and with its certificates.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    // The hub's credential is the engine's own; whatever else looks like one is not.
    "HF_TOKEN",
    "HF_TOKEN_PATH",
    "HUGGING_FACE_HUB_TOKEN",
    // Compilers of kernels.
    "CC",
    "CXX",
    "CPATH",
    "LIBRARY_PATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "MAX_JOBS",
    "VECLIB_MAXIMUM_THREADS",
];
const PREFIXES: [&str; 30] = [
    "LC_",
    "CUDA",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "ROCM_",
    "GPU_",
    "AMD_",
    "ZE_",
    "ONEAPI_",
    "SYCL_",
    "HF_",
    "HUGGINGFACE_",
    "HUGGING_FACE_",
    "TRANSFORMERS_",
    "VLLM_",
    "FLASHINFER_",
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "LLAMA_",
    "GGML_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "NUMEXPR_",
];
/// What an environment must not decide for an engine: they open it, load code or write what is asked of it to files.
const WITHHELD: [&str; 16] = [
    "VLLM_SERVER_DEV_MODE",
    "VLLM_PLUGINS",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_LORA_RESOLVER_CACHE_DIR",
    "VLLM_USE_MODELSCOPE",
    "VLLM_LOGGING_CONFIG_PATH",
    "VLLM_DEBUG_LOG_API_SERVER_RESPONSE",
    "VLLM_TRACE_FUNCTION",
    "VLLM_TORCH_PROFILER_DIR",
    "VLLM_RPC_BASE_PATH",
    "VLLM_HOST_IP",
    "VLLM_PORT",
    "HF_ENDPOINT",
    "GGML_BACKEND_PATH",
    "CUDA_INJECTION64_PATH",
];
/// The agent's own; not even the configuration gives them to an engine.
const OWN: [&str; 3] = ["MCPCTL_", "MCPD_", "MCPLOCAL_"];

/// What an engine inherits.
pub(crate) fn inherited() -> impl Iterator<Item = (String, OsString)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| is_inherited(name))
}

/// Whether the configuration may not set a variable for an engine.
pub(crate) fn is_own(name: &str) -> bool {
    OWN.iter().any(|prefix| name.starts_with(prefix))
}

fn is_inherited(name: &str) -> bool {
    if NAMES.contains(&name) {
        return true;
    }
    let withheld = WITHHELD.contains(&name)
        || name.starts_with("LLAMA_ARG_")
        || arguments::is_refused_variable(name)
        || redaction::names_secret(name);
    !withheld && PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_inherited() {
        for name in [
            "PATH",
            "HOME",
            "LANG",
            "LC_ALL",
            "TMPDIR",
            "CUDA_VISIBLE_DEVICES",
            "CUDA_HOME",
            "NVIDIA_VISIBLE_DEVICES",
            "HF_HOME",
            "HF_HUB_OFFLINE",
            "HF_TOKEN",
            "VLLM_CPU_KVCACHE_SPACE",
            "OMP_NUM_THREADS",
            "LD_LIBRARY_PATH",
            "https_proxy",
            "HSA_OVERRIDE_GFX_VERSION",
            "GGML_CUDA_ENABLE_UNIFIED_MEMORY",
            "TORCHINDUCTOR_CACHE_DIR",
        ] {
            assert!(is_inherited(name), "{name}");
        }
        for name in [
            "MCPCTL_TOKEN",
            "MCPD_DATABASE_URL",
            "MCPLOCAL_KEY",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "DATABASE_URL",
            "SSH_AUTH_SOCK",
            "LD_PRELOAD",
            "LD_AUDIT",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PYTHONHOME",
            "BASH_ENV",
            "NOTIFY_SOCKET",
            "VLLM_API_KEY",
            "LLAMA_API_KEY",
            "LLAMA_ARG_TOOLS",
            "LLAMA_ARG_HOST",
            "VLLM_SERVER_DEV_MODE",
            "VLLM_PLUGINS",
            "VLLM_S3_SECRET",
            "HF_ENDPOINT",
            "OTHER",
            "path",
        ] {
            assert!(!is_inherited(name), "{name}");
        }
    }
}
