"""Where images come from (`sets`), what a view is (`views`), and how batches are made of both."""
