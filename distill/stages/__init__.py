"""The stages of the pipeline, one public function each: a config and its inputs in, an artifact's files out."""
