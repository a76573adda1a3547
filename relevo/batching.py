"""What an app of ours has beside Celery's: batches and chains, and the one place that every job is
sent from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

import celery

from relevo.batches import chain, dispatch
from relevo.batches.batch import Batches, NewBatch
from relevo.batches.chain import NewChain
from relevo.dispatch import capture, transactions
from relevo.errors import OptionError
from relevo.job import redaction
from relevo.store.batches import BatchRow


class Batching(celery.Celery):
    """Celery's app, with batches."""

    def batch(self, members: Iterable[Any]) -> NewBatch:
        """A batch in the making, of signatures and chains: any iterable, which is read once, as
        they are sent.
        """
        if isinstance(members, (str, Mapping)) or not isinstance(
            members, Iterable
        ):  # a signature is a mapping
            raise OptionError(
                f"expected the members of a batch to be a list, or any iterable of them, got {members!r}"
            )
        return NewBatch(self, members)

    def chain(self, *links: Any) -> NewChain:
        """A chain in the making, of signatures and batches; None is left out."""
        return NewChain(self, links)

    @cached_property
    def batches(self) -> Batches:
        """The batches that were dispatched: `find`, `page`, `prune`."""
        return Batches(self)

    def send_batch(self, new: NewBatch, id_: str, session: Any = None) -> BatchRow:
        """The way out for every batch."""
        return dispatch.launch(new, id_, session)

    def send_chain(self, new: NewChain, id_: str, session: Any = None) -> BatchRow:
        """The way out for every chain of ours."""
        return chain.launched(new, id_, session)

    def send_in_session(self, session: Any, send: Callable[[], Any]) -> Any:
        """The way out for what is dispatched in a transaction: whatever `send` dispatches. Returns
        what it returns.
        """
        return transactions.dispatch(self, session, send)

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any
    ) -> Any:
        """Celery's way out for every job."""
        if (collecting := capture.producer_now()) is not None:
            options["producer"] = collecting
        elif chain.is_handing_on(options):
            return chain.handed_on(
                self, lambda: self.send_task(name, args, kwargs, *rest, **options)
            )
        options = redaction.at_dispatch(self, name, args, kwargs, options)
        return super().send_task(name, args, kwargs, *rest, **options)
