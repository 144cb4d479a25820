//! How far a start is, by what the engine itself writes. Words of its log are a hint for people, and decide nothing.

use crate::status::StartPhase;

/// What a line of an engine's log tells of its start; nothing where it is about something else.
pub(crate) fn told_by(line: &str) -> Option<(StartPhase, Option<u8>)> {
    let lower = line.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let phase = if says(&["loading weights", "checkpoint shards", "starting to load model", "load_tensors"]) {
        StartPhase::Loading
    } else if says(&["torch.compile", "compiling", "cuda graph", "graph capturing", "dynamo bytecode"]) {
        StartPhase::Compiling
    } else {
        return None;
    };
    Some((phase, percent(line)))
}

/// The first number before a percent sign, as progress bars have it: `Loading … shards:  50% Completed | 2/4`.
fn percent(line: &str) -> Option<u8> {
    let (before, _) = line.split_once('%')?;
    let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    before.get(before.len() - digits..)?.parse().ok().filter(|percent| *percent <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as vLLM 0.32 and llama-server write them.
    #[test]
    fn lines_of_real_engines_tell_how_far_they_are() {
        let told = |line| told_by(line);
        assert_eq!(
            told("Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01,  1.52it/s]"),
            Some((StartPhase::Loading, Some(50)))
        );
        assert_eq!(
            told("INFO [gpu_model_runner.py:2653] Starting to load model Qwen..."),
            Some((StartPhase::Loading, None))
        );
        assert_eq!(
            told("load_tensors: loading model tensors, this can take a while"),
            Some((StartPhase::Loading, None))
        );
        assert_eq!(
            told("INFO [monitor.py:34] torch.compile takes 21.04 s in total"),
            Some((StartPhase::Compiling, None))
        );
        assert_eq!(
            told("Capturing CUDA graphs (decode): 100%|####| 35/35"),
            Some((StartPhase::Compiling, Some(100)))
        );
        assert_eq!(told("GET /health 200"), None);
        assert_eq!(told("Loading weights took 250% longer"), Some((StartPhase::Loading, None)));
    }
}
