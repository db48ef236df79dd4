"""Fine-tune language models on Android: LoRA with exact gradients in little memory."""
