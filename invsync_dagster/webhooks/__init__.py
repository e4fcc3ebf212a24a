"""How webhooks come in: the receiver that answers them, and the inbox that keeps them until they are applied."""
