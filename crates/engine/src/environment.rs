//! The variables that an engine inherits from the agent: those that GPUs, libraries and downloads need, by name. No
//! others, because the secrets that an environment may hold cannot be listed.

use std::ffi::OsString;

use mcpctl_supervisor::redaction;

use crate::server::{self, ModelServer};

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
    // Downloads of models go through the company's proxy and trust its certificates.
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
    // The credential for the hub is meant for engines; no other variable that may hold a credential is.
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
const PREFIXES: [&str; 26] = [
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
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "NUMEXPR_",
];
/// Variables of libraries that load code or models from elsewhere. Those of one model server are in its file.
const WITHHELD: [&str; 2] = ["HF_ENDPOINT", "CUDA_INJECTION64_PATH"];
/// Variables of the agent itself; the configuration cannot give them to an engine either.
const OWN: [&str; 3] = ["MCPCTL_", "MCPD_", "MCPLOCAL_"];

/// The variables that an engine inherits.
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
        || server::all(ModelServer::withheld_variables).any(|withheld| withheld == name)
        || server::stands_for_argument(name)
        || redaction::names_secret(name);
    let mut prefixes = PREFIXES.into_iter().chain(server::all(ModelServer::inherited_prefixes));
    !withheld && prefixes.any(|prefix| name.starts_with(prefix))
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
