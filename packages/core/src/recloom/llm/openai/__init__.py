"""Chat models and text encoders behind a server of OpenAI's protocol."""
