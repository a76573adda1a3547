"""The caller's side: what a message is made of, transactions, the outbox and its sender."""
