"""The stages of the pipeline: one public function each, from a config and its inputs to the files of an
artifact."""
