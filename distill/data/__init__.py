"""Load images (`sets`), make views of them (`views`), and make batches of both."""
