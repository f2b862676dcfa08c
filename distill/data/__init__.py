"""Load images (`sets`), make augmented views of them (`views`), and make batches of views with their labels."""
