"""Where stages run. The numbers do not depend on it."""
