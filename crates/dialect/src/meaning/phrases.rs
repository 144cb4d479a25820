//! The codes and phrases by which model servers name the cause of an error, in lower case. `*` in a phrase matches any text.

/// Parts of codes by which providers refuse content: OpenAI (`content_policy_violation`, `moderation_blocked`), Azure
/// (`content_filter`, `ResponsibleAIPolicyViolation`), Gemini (`PROHIBITED_CONTENT`), Bedrock (guardrails), Alibaba
/// (`data_inspection_failed`), and OpenRouter's `flagged_input`.
pub(super) const CONTENT_CODE_PARTS: &[&str] = &[
    "content_filter",
    "contentfilter",
    "content_policy",
    "moderation",
    "policyviolation",
    "policy_violation",
    "prohibited_content",
    "security_violation",
    "sensitive_word",
    "sensitive_content",
    "guardrail",
    "datainspectionfailed",
    "data_inspection_failed",
    "flagged",
    "safety_",
    "refusal",
    "cyber_policy",
    "sensitivecontent",
    "unsafe_content",
    "content_blocked",
    "contentblocked",
];

/// Whole codes by which providers refuse content: OpenAI (`invalid_prompt`), Gemini.
pub(super) const CONTENT_CODES: &[&str] = &["invalid_prompt", "safety", "recitation", "blocklist"];

/// Phrases that occur only in a refusal of content.
pub(super) const CONTENT_PHRASES: &[&str] = &[
    "moderation",
    "content policy",
    "content policies",
    "content management policy",
    "content filter",
    "content guidelines",
    "content exists risk",
    "content restriction",
    "usage guidelines",
    "usage policy",
    "usage policies",
    "acceptable use",
    "prohibited use",
    "prohibited content",
    "community guidelines",
    "safety system",
    "safety filter",
    "safety check",
    "safety_check",
    "safety setting",
    "safety reason",
    "safety polic",
    "safety guideline",
    "safety violation",
    "guardrail",
    "responsible ai",
    "sensitive content",
    "sensitive word",
    "sensitive information",
    "harmful content",
    "inappropriate content",
    "disallowed content",
    "unsafe content",
    "offensive",
    "violates our",
    "violates policy",
    "violates the policy",
    "denied by policy",
    "content safety",
    "not allowed to discuss",
    "terms of service",
    "flagged as",
    "jailbreak",
    "prompt injection",
    "prompt attack",
    "prompt_attack",
    "pii detected",
    "data loss prevention",
    "csam",
    "nsfw",
    "toxicity",
    "denied topic",
    "guard check",
    "llamaguard",
    "llama guard",
    "topic is not allowed",
    "敏感",
    "违规",
    "不合规",
    "审核",
    "违反",
    "violating our",
];

/// A message with a phrase of each of the next two lists is a refusal of content: what is refused, and how.
pub(super) const CONTENT_SUBJECT_PHRASES: &[&str] =
    &["content", "prompt", "input", "message", "output", "request", "response", "text", "query"];
pub(super) const CONTENT_REFUSAL_PHRASES: &[&str] = &[
    "flagged",
    "sensitive",
    "moderated",
    "was filtered",
    "been filtered",
    "blocked",
    "violat",
    "harmful",
    "inappropriate",
    "unsafe",
    "disallowed",
    "censored",
    "prohibited",
    "not permitted by policy",
];
/// Unless it has one of these: then it is about the number of requests.
pub(super) const LOAD_PHRASES: &[&str] =
    &["rate limit", "rate-limit", "too many requests", "quota", "overloaded", "capacity"];

/// OpenAI and Groq; llama.cpp (ggml-org/llama.cpp pull request 15780); Gemini's compatible route at third parties.
pub(super) const CONTEXT_LENGTH_CODES: &[&str] = &[
    "context_length_exceeded",
    "exceed_context_size_error",
    "context_window_exceeded",
    "model_max_prompt_tokens_exceeded",
    "string_above_max_length",
];

/// - vLLM: "This model's maximum context length is 2048 tokens. However, you requested …" (vllm-project/vllm issue 20409),
///   "The prompt (total length 25938) is too long to fit into the model" (issue 12165), "… is longer than the maximum model
///   length of …", "The decoder prompt …".
/// - SGLang: "The input (12345 tokens) is longer than the model's context length (8192 tokens).", "Input length (… tokens)
///   exceeds the maximum allowed length (… tokens)".
/// - llama.cpp: "the request exceeds the available context size"; llama-cpp-python: "Requested tokens (…) exceed context
///   window of …" (issue 416).
/// - LM Studio: "Trying to keep the first N tokens when context the overflows", "Context size has been exceeded".
/// - Ollama: "the input length exceeds the context length", "prompt too long; exceeded max context length by N tokens".
/// - TGI: "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: …", "`inputs` must have less than 1024 tokens".
/// - Together: "Input validation error: `inputs` tokens + …"; Mistral: "Prompt contains 40000 tokens … too large for model with
///   32768 maximum context length". Groq: "Please reduce the length of the messages or completion."
/// - Anthropic: "prompt is too long: 209353 tokens > 199999 maximum", "input length and `max_tokens` exceed context limit: …".
/// - Gemini: "The input token count (…) exceeds the maximum number of tokens allowed (…)".
/// - Bedrock: "Input is too long for requested model.", "too many input tokens"; Cohere: "too many tokens: total number of
///   tokens in the prompt cannot exceed …"; xAI: "This model's maximum prompt length is …"; Fireworks: "The prompt is too
///   long: …"; Alibaba: "Range of input length should be [1, …]".
pub(super) const CONTEXT_LENGTH_PHRASES: &[&str] = &[
    "maximum context length",
    "maximum prompt length",
    "max context length",
    "prompt is too long",
    "prompt*is too long to fit",
    "prompt too long",
    "input is too long for requested model",
    "longer than the maximum model length",
    "longer than the model's context length",
    "exceed*context size",
    "context size*exceeded",
    "exceed*context window",
    "exceed*context limit",
    "exceed*context length",
    "context length*exceeded",
    "context window*exceeded",
    "exceeds the maximum allowed length",
    "input token count*exceeds the maximum number of tokens",
    "input tokens exceed*limit",
    "too many input tokens",
    "number of tokens in the prompt cannot exceed",
    "tokens when context*overflows",
    "tokens + *max_new_tokens* must be <=",
    "inputs* must have less than*tokens",
    "too large for model with*maximum context length",
    "reduce the length of the messages",
    "reduce the length of the prompt",
    "reduce your prompt",
    "range of input length should be",
];

/// - llama.cpp: "image input is not supported - hint: …", "This server does not support …", "tools param requires --jinja
///   flag", "Failed to parse grammar", "Failed to load image or audio file", "Unable to generate parser for this template".
/// - vLLM: "… is not a multimodal model", "At most 0 image(s) may be provided in one prompt.", "\"auto\" tool choice requires
///   --enable-auto-tool-choice", "Conversation roles must alternate user/assistant/…", "cannot identify image file".
/// - SGLang: "… does not support image input"; Ollama: "registry.ollama.ai/… does not support tools", "this model is missing
///   data required for image input", "invalid image", "does not support thinking".
/// - OpenRouter: "No endpoints found that support image input", "… that can handle the requested parameters".
pub(super) const UNSUPPORTED_PHRASES: &[&str] = &[
    "image input is not supported",
    "audio input is not supported",
    "video input is not supported",
    "input is not supported",
    "images are not supported",
    "image inputs are not supported",
    "image_url is not supported",
    "multimodal is not supported",
    "does not support*image",
    "does not support*vision",
    "does not support*audio",
    "does not support*video",
    "does not support*multimodal",
    "does not support*tool",
    "does not support*function",
    "does not support*json",
    "does not support*response_format",
    "does not support*structured",
    "does not support*thinking",
    "does not support*reasoning",
    "does not support*system",
    "does not support*embeddings",
    "does not support*chat",
    "does not support*generate",
    "does not support*completion",
    "not a multimodal model",
    "at most * image",
    "at most * audio",
    "mmproj",
    "missing data required for image input",
    "requires --jinja",
    "requires --enable-auto-tool-choice",
    "failed to parse grammar",
    "failed to load image",
    "cannot identify image file",
    "roles must alternate",
    "unable to generate parser for this template",
    "no endpoints found that support",
    "no endpoints found that can handle",
    "no endpoints found matching",
];

/// OpenAI and Azure; Anthropic's limits of spending.
pub(super) const QUOTA_CODES: &[&str] = &[
    "insufficient_quota",
    "billing_hard_limit_reached",
    "insufficient_user_quota",
    "quota_exceeded_permanently",
    "credits_exhausted",
    "contract_spend_limit_reached",
    "enforced_spend_limit_reached",
    "linked_organization_spend_limit_reached",
];

/// OpenAI: "You exceeded your current quota, please check your plan and billing details." Anthropic, with status 400: "You have
/// reached your specified API usage limits. You will regain access on …".
pub(super) const QUOTA_PHRASES: &[&str] = &[
    "you exceeded your current quota, please check your plan and billing",
    "you have exceeded your current quota, please check your plan and billing",
    "billing hard limit has been reached",
    "insufficient quota",
    "you have reached your specified api usage limits",
];

/// OpenAI, Azure, Anthropic, Google (`details[].reason`), Alibaba (`Arrearage`).
pub(super) const CREDENTIAL_CODES: &[&str] = &[
    "invalid_api_key",
    "incorrect_api_key",
    "authentication_error",
    "billing_error",
    "organization_on_hold",
    "linked_organization_billing_unavailable",
    "invalid_authentication",
    "invalid_authentication_error",
    "unauthenticated",
    "api_key_invalid",
    "api_key_service_blocked",
    "api_key_ip_address_blocked",
    "api_key_http_referrer_blocked",
    "service_disabled",
    "consumer_suspended",
    "billing_disabled",
    "billing_not_active",
    "account_deactivated",
    "permission_error",
    "permission_denied",
    "invalidsubscriptionkey",
    "unsupported_country_region_territory",
    "arrearage",
];

/// Google: "API key not valid. Please pass a valid API key."; xAI: "Incorrect API key provided: …" (both with 400); Anthropic:
/// "Your credit balance is too low to access the Anthropic API", "This organization has been disabled." (400 too); DeepSeek:
/// "Insufficient Balance".
pub(super) const CREDENTIAL_PHRASES: &[&str] = &[
    "api key not valid",
    "api key expired",
    "api key not found",
    "api_key_invalid",
    "incorrect api key",
    "invalid api key",
    "invalid x-api-key",
    "your credit balance is too low",
    "this organization has been disabled",
    "insufficient balance",
    "insufficient credits",
    "your account is not active",
    "user location is not supported",
];

/// OpenAI (`model_not_found`, 404 and 403), Groq (`model_decommissioned`), Azure (`DeploymentNotFound`), Alibaba.
pub(super) const MODEL_CODES: &[&str] = &[
    "model_not_found",
    "modelnotfound",
    "model_decommissioned",
    "model_deprecated",
    "model_not_available",
    "model_unavailable",
    "model_not_active",
    "deploymentnotfound",
    "deployment_not_found",
    "invalid_model",
];

/// - vLLM and OpenAI: "The model `m` does not exist."; OpenAI: "… has been deprecated"; Groq: "… has been decommissioned".
/// - Ollama: "model \"m\" not found, try pulling it first"; llama-swap: "could not find real modelID for m".
/// - OpenRouter: "No endpoints found for m.", "m is not a valid model ID"; DeepSeek: "Model Not Exist"; Mistral: "Invalid model: m".
/// - Gemini: "models/m is not found for API version v1main"; Vertex: "Publisher Model … was not found"; Anthropic: "model: m".
/// - Together: "Unable to access model m"; Bedrock: "This model version has reached the end of its life."; LM Studio: "No models
///   loaded"; Hugging Face: "The requested model 'm' does not exist".
pub(super) const MODEL_PHRASES: &[&str] = &[
    "the model * does not exist",
    "the model* does not exist",
    "the model* has been deprecated",
    "the model* has been decommissioned",
    "the model* has been removed",
    "the model* has been retired",
    "the model* not found",
    "the requested model* does not exist",
    "the requested model* not found",
    "this model* is no longer available",
    "this model* has reached the end of its life",
    "model* not found",
    "model* does not exist",
    "model not exist",
    "model* has been deprecated",
    "model* is no longer",
    "models/* is not found",
    "publisher model* was not found",
    "no endpoints found for ",
    "no models loaded",
    "could not find real modelid",
    "invalid model: ",
    "unable to access model ",
    "unknown model",
    "* is not a valid model id",
    "invalid model name",
    "the provided model identifier is invalid",
    "model: *$",
];

/// Phrases of a refusal that is about our key or account.
pub(super) const ACCOUNT_PHRASES: &[&str] = &[
    "api key",
    "api-key",
    "apikey",
    "api_key",
    "access key",
    "subscription key",
    "access token",
    "auth token",
    "invalid token",
    "token is",
    "token has",
    "credential",
    "account",
    "authenticat",
    "authoriz",
    "authoris",
    "permission",
    "organization",
    "organisation",
    "project",
    "workspace",
    "subscription",
    "billing",
    "credits",
    "credit balance",
    "balance",
    "payment",
    "country",
    "region",
    "location",
    "ip address",
    "suspended",
    "deactivated",
    "firewall",
    "virtual network",
];
