"""The caller's side: the builder, the message's header, transactions, the outbox and its sender."""
