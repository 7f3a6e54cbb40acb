"""Models to and from folders of Hugging Face's Llama."""
