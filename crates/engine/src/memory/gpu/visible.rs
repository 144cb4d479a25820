//! Which of the machine's GPUs an engine sees, and in which order: by its environment, as CUDA and ROCm read it.

use super::{Gpu, Maker};
use crate::options::EngineEnv;

/// The variables that choose the GPUs that an engine sees; one that is not set hides none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Visible {
    cuda: Option<String>,
    hip: Option<String>,
    rocr: Option<String>,
}

impl Visible {
    /// For an engine with these variables, and those that it inherits.
    pub(crate) fn to(env: &EngineEnv) -> Self {
        let value = |name: &str| {
            let own = env.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_owned());
            own.or_else(|| std::env::var(name).ok())
        };
        Self::by(value)
    }

    fn by(value: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            cuda: value("CUDA_VISIBLE_DEVICES"),
            hip: value("HIP_VISIBLE_DEVICES"),
            rocr: value("ROCR_VISIBLE_DEVICES"),
        }
    }

    /// The GPUs that it sees, in the order in which it numbers them.
    pub(crate) fn among(&self, gpus: &[Gpu]) -> Vec<Gpu> {
        let all = || gpus.iter().map(|gpu| (gpu.index, gpu.clone())).collect::<Vec<_>>();
        match gpus.first().map(|gpu| gpu.maker) {
            None => Vec::new(),
            Some(Maker::Nvidia) => chosen(self.cuda.as_deref(), all()),
            // HIP numbers the GPUs that ROCr left, and uses CUDA's variable where its own is not set (ROCm's documentation
            // of GPU isolation).
            Some(Maker::Amd) => {
                let left = chosen(self.rocr.as_deref(), all());
                let numbered = if self.rocr.is_some() {
                    (0..).zip(left).collect()
                } else {
                    left.into_iter().map(|gpu| (gpu.index, gpu)).collect()
                };
                chosen(self.hip.as_deref().or(self.cuda.as_deref()), numbered)
            }
        }
    }
}

/// The GPUs that such a list chooses. As in CUDA, the list ends before the first word that names no GPU, as `-1` does, or one
/// that was named before; the beginning of a UUID is enough.
fn chosen(list: Option<&str>, mut from: Vec<(u32, Gpu)>) -> Vec<Gpu> {
    let Some(list) = list else { return from.into_iter().map(|(_, gpu)| gpu).collect() };
    let mut chosen = Vec::new();
    for word in list.split(',').map(str::trim) {
        let named = |(number, gpu): &(u32, Gpu)| match word.parse::<u32>() {
            Ok(wanted) => *number == wanted,
            Err(_) => {
                word.starts_with("GPU-") && gpu.uuid.as_deref().is_some_and(|uuid| uuid.starts_with(word))
            }
        };
        let Some(at) = from.iter().position(named) else { break };
        chosen.push(from.remove(at).1);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus(maker: Maker) -> Vec<Gpu> {
        let gpu = |index, uuid: &str| Gpu {
            index,
            uuid: Some(format!("GPU-{uuid}")),
            maker,
            name: String::new(),
            total: 1,
            free: 1,
        };
        vec![gpu(0, "aa-11"), gpu(1, "ab-22"), gpu(2, "cc-33")]
    }

    fn sees(maker: Maker, variables: &[(&str, &str)]) -> Vec<u32> {
        let value = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|&(_, value)| value.to_owned())
        };
        Visible::by(value).among(&gpus(maker)).iter().map(|gpu| gpu.index).collect()
    }

    #[test]
    fn numbers_and_uuids_choose_in_their_order_and_a_word_that_names_none_ends_the_list() {
        let cuda = |value| sees(Maker::Nvidia, &[("CUDA_VISIBLE_DEVICES", value)]);
        assert_eq!(cuda("2, 0"), [2, 0]);
        assert_eq!(cuda("GPU-cc-33,GPU-ab"), [2, 1]);
        assert_eq!(cuda("1,7,0"), [1]);
        assert_eq!(cuda("1,1"), [1]);
        for none in ["", "-1", "MIG-aa-11", "all"] {
            assert_eq!(cuda(none), [0; 0], "{none}");
        }
        assert_eq!(sees(Maker::Nvidia, &[("HIP_VISIBLE_DEVICES", "1")]), [0, 1, 2], "it is not AMD's");
        assert_eq!(Visible::default().among(&gpus(Maker::Nvidia)).len(), 3);
        assert_eq!(Visible::default().among(&[]), []);
    }

    #[test]
    fn an_engine_has_its_own_variables_before_the_agents() {
        let env = [("CUDA_VISIBLE_DEVICES".to_owned(), "1".to_owned())].into_iter().collect();
        let sees = Visible::to(&env);
        assert_eq!(sees.cuda.as_deref(), Some("1"));
        assert_eq!(sees.hip, std::env::var("HIP_VISIBLE_DEVICES").ok());
    }

    #[test]
    fn amd_numbers_what_its_lower_layer_left() {
        let amd = |variables: &[_]| sees(Maker::Amd, variables);
        assert_eq!(amd(&[]), [0, 1, 2]);
        assert_eq!(amd(&[("HIP_VISIBLE_DEVICES", "2"), ("CUDA_VISIBLE_DEVICES", "0")]), [2]);
        assert_eq!(amd(&[("CUDA_VISIBLE_DEVICES", "1")]), [1]);
        assert_eq!(amd(&[("ROCR_VISIBLE_DEVICES", "GPU-cc,1")]), [2, 1]);
        assert_eq!(amd(&[("ROCR_VISIBLE_DEVICES", "GPU-cc,1"), ("HIP_VISIBLE_DEVICES", "1")]), [1]);
    }
}
