"""Writes a GGUF model as the directory of safetensors that vLLM reads: convert.py FILE.gguf DIRECTORY."""

import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = pathlib.Path(sys.argv[1]), sys.argv[2]
where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
packed = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
config = packed.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
# A model of plain numbers: the packed one would be saved as it is packed.
plain = type(packed)(config).to(torch.bfloat16)
missing, unknown = plain.load_state_dict(packed.state_dict(), strict=False)
# The last layer is the first one again, and is not in the file.
assert not unknown and set(missing) <= {"lm_head.weight"}, (missing, unknown)
plain.tie_weights()
plain.save_pretrained(target)
AutoTokenizer.from_pretrained(**where).save_pretrained(target)
