"""What the receiver serves of the status: the document, its page and metrics; it has them from a file, never a database."""
