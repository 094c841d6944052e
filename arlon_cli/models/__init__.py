"""The networks: text encoder, video VAE, latent VQ-VAE, AR Transformer, STDiT3 with semantic injection."""
