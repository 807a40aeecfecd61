"""torch.hub: `torch.hub.load("PATH/OF/THIS/REPOSITORY", "wav2vec2_vq_local", source="local", ckpt=...)`."""

from s3prl_vqpool.runner import plugin as _plugin

dependencies = ["torch", "torchaudio", "s3prl", "soundfile", "soxr", "safetensors"]

globals().update(_plugin.upstreams())
