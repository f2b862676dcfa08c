"""Define the stages of the pipeline: functions from a config and its inputs to the files of an artifact."""
