"""Makes a plan true: extract, run the pipeline, admit what came out."""
