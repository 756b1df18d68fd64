"""Where pipelines run: this interpreter, or a container."""
