"""The GLD network in plain torch: encoder, diffusion transformers, sampler, decoders, checkpoints."""
